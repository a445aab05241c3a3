import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import javax.jms.Connection;
import javax.jms.Destination;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Session;
import javax.jms.TextMessage;
import javax.jms.XAConnection;
import org.apache.activemq.ActiveMQConnectionFactory;
import org.apache.activemq.ActiveMQXAConnectionFactory;
import org.apache.activemq.command.ActiveMQQueue;
import org.apache.activemq.command.ActiveMQTopic;

/**
 * What a story has: the address of a broker, names that nobody else uses, and clients that end
 * with it.
 *
 * Every wait is for a fact and has a limit. That nothing comes is told by what comes instead, or by
 * a pull, which the broker answers; only where there is neither it is told by {@link #QUIET}.
 */
final class Stage implements AutoCloseable {
    /** How long any single fact may take on a slow, busy machine, in milliseconds. */
    static final long PATIENCE = 20_000;
    /** What the name of a queue ends in that holds two messages; a send beyond these waits. */
    static final String FEW = "few";
    /** How long silence counts as such, in milliseconds. */
    static final long QUIET = 300;

    /** Has the broker killed or started, or a branch decided, by whoever holds it. */
    interface Asker {
        void ask(String what) throws Exception;
    }

    private final String url;
    private final String name;
    private final Asker asker;
    private final Deque<Connection> connections = new ArrayDeque<>();

    Stage(String story, String url, Asker asker) {
        // A broker that is used for many runs still holds what earlier ones left.
        this.name = story + "." + Long.toString(System.nanoTime(), 36);
        this.url = url;
        this.asker = asker;
    }

    /** The broker's address, or whatever else stands in its place. */
    String address() {
        return url;
    }

    /** A name of this story's own. */
    String named(String suffix) {
        return name + "." + suffix;
    }

    ActiveMQQueue queue(String suffix) {
        return new ActiveMQQueue(named(suffix));
    }

    ActiveMQTopic topic(String suffix) {
        return new ActiveMQTopic(named(suffix));
    }

    /** The options stand as in an address: `jms.a=1&jms.b=2`. */
    ActiveMQConnectionFactory factory(String options) {
        ActiveMQConnectionFactory factory = new ActiveMQConnectionFactory(url + "?" + options);
        factory.setTrustAllPackages(true);
        return factory;
    }

    /** A started connection. */
    Connection connect() throws JMSException {
        return connect("");
    }

    /** A started connection with options. */
    Connection connect(String options) throws JMSException {
        return started(factory(options).createConnection());
    }

    /** A started connection that survives its socket. */
    Connection connectFailover(String options) throws JMSException {
        return connectFailover(url, options);
    }

    /** The same, to another address. */
    Connection connectFailover(String to, String options) throws JMSException {
        String failover = "failover:(" + to + ")?maxReconnectDelay=50&" + options;
        return started(new ActiveMQConnectionFactory(failover).createConnection());
    }

    /** A started connection with a client id. */
    Connection connectAs(String clientId) throws JMSException {
        Connection connection = factory("").createConnection();
        connections.push(connection);
        connection.setClientID(clientId);
        connection.start();
        return connection;
    }

    /** A started connection for branches of distributed transactions. */
    XAConnection connectXa() throws JMSException {
        return connectXa(url);
    }

    /** The same, to another address. */
    XAConnection connectXa(String to) throws JMSException {
        XAConnection connection = new ActiveMQXAConnectionFactory(to).createXAConnection();
        started(connection);
        return connection;
    }

    private Connection started(Connection connection) throws JMSException {
        connections.push(connection);
        connection.start();
        return connection;
    }

    /** A session of a connection of its own. */
    Session session(int acknowledge) throws JMSException {
        return session(acknowledge, "");
    }

    Session session(int acknowledge, String options) throws JMSException {
        boolean transacted = acknowledge == Session.SESSION_TRANSACTED;
        return connect(options).createSession(transacted, acknowledge);
    }

    /** Sends texts, persistent and each confirmed, from a connection of their own. */
    void send(Destination destination, String... texts) throws JMSException {
        try (Connection connection = factory("").createConnection()) {
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            MessageProducer producer = session.createProducer(destination);
            for (String text : texts) {
                producer.send(session.createTextMessage(text));
            }
        }
    }

    /** Takes everything out of a queue, on a connection of its own, as a pull finds its end. */
    List<String> drain(Destination destination) throws JMSException {
        String pull = "jms.prefetchPolicy.all=0";
        try (Connection connection = factory(pull).createConnection()) {
            connection.start();
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            MessageConsumer consumer = session.createConsumer(destination);
            List<String> texts = new ArrayList<>();
            for (Message next; (next = consumer.receiveNoWait()) != null;) {
                texts.add(text(next));
            }
            return texts;
        }
    }

    /** Kills the broker as a crash of its process does. */
    void killBroker() throws Exception {
        asker.ask("kill");
    }

    /** Starts the killed broker again on what it left, at the same address. */
    void startBroker() throws Exception {
        asker.ask("start");
    }

    /** Has an operator decide a branch: `commit XID` or `rollback XID`. */
    void ask(String decision) throws Exception {
        asker.ask(decision);
    }

    @Override
    public void close() {
        // A story that failed may have left a connection that cannot be closed: nobody waits.
        Thread closing = new Thread(() -> connections.forEach(connection -> {
            try {
                connection.close();
            } catch (JMSException e) {
                // The broker of this story goes next.
            }
        }));
        closing.setDaemon(true);
        closing.start();
        try {
            closing.join(5_000);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    /** The next message, which must come. */
    static Message next(MessageConsumer consumer) throws JMSException {
        Message message = consumer.receive(PATIENCE);
        check(message != null, "no message within " + PATIENCE + " ms");
        return message;
    }

    static String text(Message message) throws JMSException {
        return ((TextMessage) message).getText();
    }

    /** The texts of the next messages, as many as are expected. */
    static void expectTexts(MessageConsumer consumer, String... expected) throws JMSException {
        List<String> texts = new ArrayList<>();
        for (int i = 0; i < expected.length; i++) {
            texts.add(text(next(consumer)));
        }
        expect(Arrays.asList(expected), texts);
    }

    static void expectNothing(MessageConsumer consumer) throws JMSException {
        Message message = consumer.receive(QUIET);
        check(message == null, "a message that should not come: " + message);
    }

    static void expect(Object expected, Object found) {
        check(Objects.equals(expected, found), "expected " + expected + ", found " + found);
    }

    static void check(boolean fact, String otherwise) {
        if (!fact) {
            throw new AssertionError(otherwise);
        }
    }

    /** What an action fails with, which must be of this class. */
    static <E extends Throwable> E fails(Class<E> with, Callable<?> action) {
        Object done;
        try {
            done = action.call();
        } catch (Throwable e) {
            if (with.isInstance(e)) {
                return with.cast(e);
            }
            throw new AssertionError("expected " + with.getName() + ", found " + e, e);
        }
        throw new AssertionError("expected " + with.getName() + ", but it was done: " + done);
    }

    /** Asks again and again until it holds: for facts that nothing announces. */
    static void await(String what, Callable<Boolean> fact) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(PATIENCE);
        while (!fact.call()) {
            check(System.nanoTime() < deadline, "waited in vain until " + what);
            Thread.sleep(5);
        }
    }
}
