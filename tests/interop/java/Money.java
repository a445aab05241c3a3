import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Session;
import javax.jms.TextMessage;
import javax.jms.XAConnection;
import javax.jms.XASession;
import javax.transaction.xa.XAResource;
import org.apache.activemq.ActiveMQConnectionFactory;
import org.apache.activemq.ActiveMQXAConnectionFactory;
import org.apache.activemq.command.ActiveMQQueue;
import org.postgresql.xa.PGXADataSource;

/**
 * Amounts on their way from a queue to a table and on to another queue, under a transaction
 * manager: `Money COMMAND MANAGER LOGS BROKER DATABASE COUNT`.
 *
 * `fill` puts so many amounts into the first queue. `move` moves them for ever, whatever fails, and
 * prints a line for each move, and others for what keeps it from moving. `settle` has the
 * transaction manager end what is left in doubt, and then every amount must be in one place alone.
 */
public final class Money {
    private static final ActiveMQQueue IN = new ActiveMQQueue("money.in");
    private static final ActiveMQQueue OUT = new ActiveMQQueue("money.out");
    private static final ActiveMQQueue DEAD = new ActiveMQQueue("ActiveMQ.DLQ");

    private final ActiveMQXAConnectionFactory broker;
    /** For what is no part of the managed transactions. */
    private final ActiveMQConnectionFactory plain;
    private final PGXADataSource database = new PGXADataSource();
    private final Resource queues = new Resource("queues", this::openQueues);
    private final Resource table = new Resource("table", this::openTable);
    private final Manager manager;

    private Money(String manager, String logs, String brokerUrl, String databaseUrl)
            throws Exception {
        // When this is killed, all that was on its way here counts as delivered once more, and what
        // that befalls too often is set apart: so it is not much, and soon worked off.
        broker = new ActiveMQXAConnectionFactory(brokerUrl
            + "?jms.redeliveryPolicy.maximumRedeliveries=-1&jms.prefetchPolicy.queuePrefetch=10");
        plain = new ActiveMQConnectionFactory(brokerUrl);
        database.setUrl(databaseUrl);
        this.manager = Manager.of(manager, logs, List.of(queues, table));
    }

    private Resource.Opened openQueues() throws Exception {
        XAConnection connection = broker.createXAConnection();
        return new Resource.Opened(connection.createXASession().getXAResource(), connection);
    }

    private Resource.Opened openTable() throws Exception {
        var connection = database.getXAConnection();
        return new Resource.Opened(connection.getXAResource(), connection::close);
    }

    public static void main(String[] args) {
        // The manager's own threads would keep the machine alive.
        try {
            Money money = new Money(args[1], args[2], args[3], args[4]);
            int count = Integer.parseInt(args[5]);
            switch (args[0]) {
                case "fill" -> money.fill(count);
                case "move" -> money.moveForEver();
                case "settle" -> money.settle(count);
                default -> throw new IllegalArgumentException(args[0]);
            }
            Runtime.getRuntime().halt(0);
        } catch (Exception e) {
            e.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
    }

    private void fill(int count) throws Exception {
        try (Connection connection = database.getConnection();
                Statement statement = connection.createStatement()) {
            statement.execute("create table money (amount integer not null)");
        }
        try (var connection = plain.createConnection()) {
            Session session = connection.createSession(true, Session.SESSION_TRANSACTED);
            MessageProducer producer = session.createProducer(IN);
            for (int amount = 0; amount < count; amount++) {
                producer.send(session.createTextMessage(Integer.toString(amount)));
            }
            session.commit();
        }
    }

    private void moveForEver() {
        while (true) {
            try {
                endWhatIsInDoubt();
                move();
            } catch (Exception e) {
                System.out.println("failed " + e);
            }
            try {
                if (manager.transactions().getTransaction() != null) {
                    manager.transactions().rollback();
                }
            } catch (Exception e) {
                System.out.println("failed " + e);
            }
        }
    }

    /** Before anything else is moved: it holds rows of the table, and who wants one would wait. */
    private void endWhatIsInDoubt() throws Exception {
        manager.recover();
        while (isInDoubt(queues) || isInDoubt(table)) {
            System.out.println("something is in doubt");
            manager.recover();
        }
    }

    private static boolean isInDoubt(Resource resource) throws Exception {
        try {
            return resource.open().recover(XAResource.TMSTARTRSCAN).length > 0;
        } finally {
            resource.close();
        }
    }

    /** Moves until something fails. */
    private void move() throws Exception {
        XAConnection connection = broker.createXAConnection();
        var rows = database.getXAConnection();
        try {
            connection.start();
            XASession session = connection.createXASession();
            MessageConsumer consumer = session.createConsumer(IN);
            MessageProducer producer = session.createProducer(OUT);
            for (boolean toTable = true; ; toTable = !toTable) {
                manager.transactions().begin();
                manager.enlist(queues, session.getXAResource());
                manager.enlist(table, rows.getXAResource());
                Connection sql = rows.getConnection();
                boolean moved = toTable ? toTable(consumer, sql) : toQueue(session, producer, sql);
                manager.transactions().commit();
                System.out.println(moved ? "moved" : "nothing to move");
            }
        } finally {
            Resource.closeQuietly(connection);
            Resource.closeQuietly(rows::close);
        }
    }

    private static boolean toTable(MessageConsumer consumer, Connection sql) throws Exception {
        TextMessage message = (TextMessage) consumer.receive(100);
        if (message == null) {
            return false;
        }
        try (Statement statement = sql.createStatement()) {
            statement.execute("insert into money values (" + message.getText() + ")");
        }
        return true;
    }

    private static boolean toQueue(XASession session, MessageProducer producer, Connection sql)
            throws Exception {
        try (Statement statement = sql.createStatement();
                ResultSet row = statement.executeQuery("delete from money where ctid ="
                    + " (select ctid from money limit 1 for update) returning amount")) {
            if (!row.next()) {
                return false;
            }
            producer.send(session.createTextMessage(row.getString(1)));
        }
        return true;
    }

    private void settle(int count) throws Exception {
        endWhatIsInDoubt();
        TreeMap<Integer, String> places = new TreeMap<>();
        List<String> wrong = new ArrayList<>();
        try (var connection = plain.createConnection()) {
            connection.start();
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            for (ActiveMQQueue queue : List.of(IN, OUT, DEAD)) {
                MessageConsumer consumer = session.createConsumer(queue);
                for (TextMessage m; (m = (TextMessage) consumer.receive(1_000)) != null;) {
                    place(places, wrong, Integer.parseInt(m.getText()), queue.getQueueName());
                }
                consumer.close();
            }
        }
        try (Connection sql = database.getConnection();
                Statement statement = sql.createStatement();
                ResultSet rows = statement.executeQuery("select amount from money")) {
            while (rows.next()) {
                place(places, wrong, rows.getInt(1), "table");
            }
        }
        for (int amount = 0; amount < count; amount++) {
            if (!places.containsKey(amount)) {
                wrong.add(amount + " is lost");
            }
        }
        if (places.containsValue(DEAD.getQueueName())) {
            wrong.add("something is in " + DEAD.getQueueName());
        }
        TreeMap<String, Integer> sums = new TreeMap<>();
        places.values().forEach(place -> sums.merge(place, 1, Integer::sum));
        System.out.println(sums);
        System.out.println(wrong.isEmpty() ? "every amount is in one place" : wrong.toString());
    }

    private static void place(TreeMap<Integer, String> places, List<String> wrong, int amount,
            String place) {
        String other = places.put(amount, place);
        if (other != null) {
            wrong.add(amount + " is in " + other + " and in " + place);
        }
    }
}
