import java.util.HashSet;
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
 * Three of Spring's listener containers, transacted, move texts from one queue to another, fail at
 * every tenth once, and the broker is killed meanwhile: `Container URL`. It prints `kill` and
 * `start` and waits for a byte each time, and in the end `true`, or `false` and why.
 *
 * Each has a consumer of its own. Several consumers of one container share a connection, which it
 * closes when a commit of one has failed, and the client then rolls back under a listener at work:
 * what that sends from there on is in another transaction, which does not know of its message.
 */
final class Container {
    private static final int TEXTS = 100;
    private static final int CONTAINERS = 3;

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
            Set<String> failed = ConcurrentHashMap.newKeySet();
            List<DefaultMessageListenerContainer> containers = IntStream.range(0, CONTAINERS)
                .mapToObj(i -> container(url, in, out, failed, half)).toList();
            half.await();
            stage.killBroker();
            stage.startBroker();
            Stage.await("everything was moved", () -> isEmpty(stage, in));
            containers.forEach(DefaultMessageListenerContainer::shutdown);
            Stage.expect(List.of(), stage.drain(in));
            List<String> moved = stage.drain(out);
            Set<String> once = new HashSet<>();
            moved.forEach(text -> Stage.check(once.add(text), text + " is moved twice"));
            Stage.expect(TEXTS, moved.size());
            Stage.expect(List.of(), stage.drain(new ActiveMQQueue("ActiveMQ.DLQ")));
        }
    }

    private static DefaultMessageListenerContainer container(
        String url, Queue in, Queue out, Set<String> failed, CountDownLatch half) {
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
            + "&jms.redeliveryPolicy.redeliveryDelay=0&jms.prefetchPolicy.queuePrefetch=5"));
        container.setDestination(in);
        container.setSessionTransacted(true);
        container.setConcurrency("1");
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
