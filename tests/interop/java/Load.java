import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Scanner;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicLong;
import javax.jms.BytesMessage;
import javax.jms.Connection;
import javax.jms.DeliveryMode;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Queue;
import javax.jms.Session;
import javax.jms.XAConnection;
import javax.jms.XASession;
import javax.transaction.xa.XAResource;
import javax.transaction.xa.Xid;
import org.apache.activemq.ActiveMQConnectionFactory;
import org.apache.activemq.ActiveMQXAConnectionFactory;

/**
 * What applications do all day, as fast as it goes: for each line `KIND CLIENTS URL MILLISECONDS`
 * on its standard input it works that long and prints how many were done, and in how many
 * nanoseconds. Its clients stay connected from one such turn to the next.
 */
public final class Load {
    private static final byte[] BODY = new byte[1_024];
    /** Non-persistent messages under way, so that no broker drowns in what nobody confirms. */
    private static final int WINDOW = 1_000;

    /** One client's work, again and again: one message, one transaction, one branch. */
    private interface Work {
        void once() throws Exception;
    }

    public static void main(String[] args) throws Exception {
        Map<String, List<Work>> clients = new HashMap<>();
        Scanner asks = new Scanner(System.in, StandardCharsets.UTF_8);
        while (asks.hasNext()) {
            String kind = asks.next();
            int count = asks.nextInt();
            String url = asks.next();
            long nanos = asks.nextLong() * 1_000_000;
            String key = kind + count + url;
            if (!clients.containsKey(key)) {
                List<Work> works = new ArrayList<>();
                for (int i = 0; i < count; i++) {
                    works.add(connect(kind, url, kind + count + "." + i));
                }
                clients.put(key, works);
            }
            turn(clients.get(key), nanos);
        }
        Runtime.getRuntime().halt(0);
    }

    private static void turn(List<Work> works, long nanos) throws Exception {
        AtomicLong done = new AtomicLong();
        long began = System.nanoTime();
        List<Thread> threads = new ArrayList<>();
        for (Work work : works) {
            Thread thread = new Thread(() -> {
                try {
                    long own = 0;
                    while (System.nanoTime() - began < nanos) {
                        work.once();
                        own++;
                    }
                    done.addAndGet(own);
                } catch (Exception e) {
                    e.printStackTrace();
                    Runtime.getRuntime().halt(1);
                }
            });
            threads.add(thread);
            thread.start();
        }
        for (Thread thread : threads) {
            thread.join();
        }
        System.out.println(done + " " + (System.nanoTime() - began));
    }

    private static Work connect(String kind, String url, String name) throws JMSException {
        return switch (kind) {
            case "send" -> sender(url, name);
            case "transaction" -> transactions(url, name);
            case "branch" -> branches(url, name);
            case "relay" -> nonPersistent(url, name);
            default -> throw new IllegalArgumentException(kind);
        };
    }

    private static Connection start(String url) throws JMSException {
        Connection connection = new ActiveMQConnectionFactory(url).createConnection();
        connection.start();
        return connection;
    }

    private static BytesMessage message(Session session) throws JMSException {
        BytesMessage message = session.createBytesMessage();
        message.writeBytes(BODY);
        return message;
    }

    /** A persistent message, confirmed. */
    private static Work sender(String url, String name) throws JMSException {
        Session session = start(url).createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageProducer producer = session.createProducer(session.createQueue(name));
        return () -> producer.send(message(session));
    }

    /** One received and one sent, in one local transaction. */
    private static Work transactions(String url, String name) throws JMSException {
        Session session = start(url).createSession(true, Session.SESSION_TRANSACTED);
        Queue queue = session.createQueue(name);
        MessageProducer producer = session.createProducer(queue);
        for (int i = 0; i < 10; i++) {
            producer.send(message(session));
        }
        session.commit();
        MessageConsumer consumer = session.createConsumer(queue);
        return () -> {
            consumer.receive();
            producer.send(message(session));
            session.commit();
        };
    }

    /** A branch with one message: start, send, end, prepare, commit. */
    private static Work branches(String url, String name) throws JMSException {
        XAConnection connection = new ActiveMQXAConnectionFactory(url).createXAConnection();
        connection.start();
        XASession session = connection.createXASession();
        XAResource resource = session.getXAResource();
        MessageProducer producer = session.createProducer(session.createQueue(name));
        AtomicLong number = new AtomicLong(System.nanoTime());
        return () -> {
            Branch branch = new Branch(name + "." + number.getAndIncrement());
            resource.start(branch, XAResource.TMNOFLAGS);
            producer.send(message(session));
            resource.end(branch, XAResource.TMSUCCESS);
            resource.prepare(branch);
            resource.commit(branch, false);
        };
    }

    private record Branch(String name) implements Xid {
        @Override
        public int getFormatId() {
            return 1;
        }

        @Override
        public byte[] getGlobalTransactionId() {
            return name.getBytes(StandardCharsets.UTF_8);
        }

        @Override
        public byte[] getBranchQualifier() {
            return new byte[] {1};
        }
    }

    /** A non-persistent message on its way to a listener. */
    private static Work nonPersistent(String url, String name) throws JMSException {
        Semaphore window = new Semaphore(WINDOW);
        Session receiving = start(url).createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer = receiving.createConsumer(receiving.createQueue(name));
        consumer.setMessageListener((Message message) -> window.release());
        Session session = start(url).createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageProducer producer = session.createProducer(session.createQueue(name));
        producer.setDeliveryMode(DeliveryMode.NON_PERSISTENT);
        return () -> {
            window.acquire();
            producer.send(message(session));
        };
    }
}
