import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.stream.IntStream;
import javax.jms.Connection;
import javax.jms.JMSException;
import javax.jms.Queue;
import javax.jms.Session;
import org.apache.activemq.ActiveMQConnectionFactory;
import org.apache.activemq.command.ActiveMQQueue;
import org.springframework.jms.listener.DefaultMessageListenerContainer;
import org.springframework.jms.listener.SessionAwareMessageListener;

/**
 * Spring's listener container, transacted and with one to three consumers, moves texts from one
 * queue to another, fails at every tenth once, and the broker is killed meanwhile: `Container URL`.
 * It prints `kill` and `start` and waits for a byte each time, and in the end `true`, or `false`
 * and why.
 */
final class Container {
    private static final int TEXTS = 100;

    public static void main(String[] args) {
        int status = 0;
        try {
            move(args[0]);
            System.out.println("true");
        } catch (Throwable e) {
            System.out.println("false " + e);
            status = 1;
        }
        // What a container has left behind may still run.
        System.exit(status);
    }

    private static void move(String url) throws Exception {
        Queue in = new ActiveMQQueue("in");
        Queue out = new ActiveMQQueue("out");
        try (Stage stage = new Stage("container", url, Container::ask)) {
            String[] texts =
                IntStream.range(0, TEXTS).mapToObj(i -> "m" + i).toArray(String[]::new);
            stage.send(in, texts);
            CountDownLatch half = new CountDownLatch(TEXTS / 2);
            DefaultMessageListenerContainer container = container(url, in, out, half);
            half.await();
            stage.killBroker();
            stage.startBroker();
            Stage.await("everything was moved", () -> isEmpty(stage, in));
            container.shutdown();
            Stage.expect(List.of(), stage.drain(in));
            List<String> moved = stage.drain(out);
            Stage.expect(TEXTS, moved.size());
            Stage.expect((long) TEXTS, moved.stream().distinct().count());
            Stage.expect(List.of(), stage.drain(new ActiveMQQueue("ActiveMQ.DLQ")));
        }
    }

    private static DefaultMessageListenerContainer container(
        String url, Queue in, Queue out, CountDownLatch half) {
        Set<String> failed = ConcurrentHashMap.newKeySet();
        SessionAwareMessageListener<javax.jms.TextMessage> mover = (message, session) -> {
            String text = message.getText();
            if (text.endsWith("7") && failed.add(text)) {
                throw new IllegalStateException("fails once");
            }
            session.createProducer(out).send(session.createTextMessage(text));
            half.countDown();
        };
        var container = new DefaultMessageListenerContainer();
        container.setConnectionFactory(new ActiveMQConnectionFactory("failover:(" + url
            + ")?maxReconnectDelay=50&jms.redeliveryPolicy.initialRedeliveryDelay=0"
            + "&jms.redeliveryPolicy.redeliveryDelay=0"));
        container.setDestination(in);
        container.setSessionTransacted(true);
        container.setConcurrency("1-3");
        container.setRecoveryInterval(50);
        container.setErrorHandler(error -> { });
        container.setMessageListener(mover);
        container.afterPropertiesSet();
        container.start();
        return container;
    }

    private static boolean isEmpty(Stage stage, Queue queue) throws JMSException {
        try (Connection connection = stage.factory("").createConnection()) {
            connection.start();
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            return !session.createBrowser(queue).getEnumeration().hasMoreElements();
        }
    }

    private static void ask(String what) throws Exception {
        System.out.println(what);
        System.in.read();
    }
}
