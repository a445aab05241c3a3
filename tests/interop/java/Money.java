import com.arjuna.ats.arjuna.common.CoordinatorEnvironmentBean;
import com.arjuna.ats.arjuna.common.CoreEnvironmentBean;
import com.arjuna.ats.arjuna.common.ObjectStoreEnvironmentBean;
import com.arjuna.ats.arjuna.common.RecoveryEnvironmentBean;
import com.arjuna.ats.arjuna.recovery.RecoveryManager;
import com.arjuna.ats.internal.jta.recovery.arjunacore.XARecoveryModule;
import com.arjuna.ats.jta.common.JTAEnvironmentBean;
import com.arjuna.ats.jta.recovery.XAResourceRecoveryHelper;
import com.arjuna.common.internal.util.propertyservice.BeanPopulator;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;
import javax.jms.JMSException;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Session;
import javax.jms.TextMessage;
import javax.jms.XAConnection;
import javax.jms.XASession;
import javax.transaction.TransactionManager;
import javax.transaction.xa.XAResource;
import org.apache.activemq.ActiveMQConnectionFactory;
import org.apache.activemq.ActiveMQXAConnectionFactory;
import org.apache.activemq.command.ActiveMQQueue;
import org.postgresql.xa.PGXADataSource;

/**
 * Amounts on their way from a queue to a table and on to another queue, under a transaction
 * manager: `Money COMMAND LOGS BROKER DATABASE COUNT`.
 *
 * `fill` puts so many amounts into the first queue. `move` moves them for ever, whatever fails, and
 * prints a line for each move. `settle` has the transaction manager end what is left in doubt, and
 * then every amount must be in exactly one place.
 */
public final class Money {
    private static final ActiveMQQueue IN = new ActiveMQQueue("money.in");
    private static final ActiveMQQueue OUT = new ActiveMQQueue("money.out");
    private static final ActiveMQQueue DEAD = new ActiveMQQueue("ActiveMQ.DLQ");
    /** How often the manager looks before what nobody knows counts as abandoned. */
    private static final int SCANS = 2;

    private final ActiveMQXAConnectionFactory broker;
    /** For what is no part of the managed transactions. */
    private final ActiveMQConnectionFactory plain;
    private final PGXADataSource database = new PGXADataSource();
    private final TransactionManager manager;
    private final RecoveryManager recovery;

    private Money(String logs, String brokerUrl, String databaseUrl) {
        broker = new ActiveMQXAConnectionFactory(
            brokerUrl + "?jms.redeliveryPolicy.maximumRedeliveries=-1");
        plain = new ActiveMQConnectionFactory(brokerUrl);
        database.setUrl(databaseUrl);
        configure(logs);
        recovery = RecoveryManager.manager(RecoveryManager.DIRECT_MANAGEMENT);
        recovery.initialize();
        XARecoveryModule module = XARecoveryModule.getRegisteredXARecoveryModule();
        module.addXAResourceRecoveryHelper(new Helper(this::brokersBranches));
        module.addXAResourceRecoveryHelper(new Helper(this::databasesBranches));
        manager = com.arjuna.ats.jta.TransactionManager.transactionManager();
    }

    private static void configure(String logs) {
        for (String name : new String[] {null, "stateStore", "communicationStore"}) {
            var type = ObjectStoreEnvironmentBean.class;
            ObjectStoreEnvironmentBean store = name == null
                ? BeanPopulator.getDefaultInstance(type)
                : BeanPopulator.getNamedInstance(type, name);
            store.setObjectStoreDir(logs);
        }
        var core = BeanPopulator.getDefaultInstance(CoreEnvironmentBean.class);
        try {
            core.setNodeIdentifier("1");
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
        // Else it listens for other managers that share its logs.
        BeanPopulator.getDefaultInstance(CoordinatorEnvironmentBean.class)
            .setTransactionStatusManagerEnable(false);
        var recovery = BeanPopulator.getDefaultInstance(RecoveryEnvironmentBean.class);
        recovery.setRecoveryModuleClassNames(List.of(
            "com.arjuna.ats.internal.arjuna.recovery.AtomicActionRecoveryModule",
            "com.arjuna.ats.internal.jta.recovery.arjunacore.XARecoveryModule"));
        recovery.setExpiryScannerClassNames(List.of());
        recovery.setRecoveryBackoffPeriod(1);
        var jta = BeanPopulator.getDefaultInstance(JTAEnvironmentBean.class);
        String filters = "com.arjuna.ats.internal.jta.recovery.arjunacore.";
        jta.setXaResourceOrphanFilterClassNames(List.of(
            filters + "JTATransactionLogXAResourceOrphanFilter",
            filters + "JTANodeNameXAResourceOrphanFilter"));
        jta.setXaRecoveryNodes(List.of("1"));
        // Nobody else works for this node, and it never looks while it moves.
        jta.setOrphanSafetyInterval(100);
    }

    /** Where the manager finds the branches of one resource: anew each time, for it may be down. */
    private record Helper(Source source) implements XAResourceRecoveryHelper {
        interface Source {
            XAResource open() throws Exception;
        }

        @Override
        public boolean initialise(String unused) {
            return true;
        }

        @Override
        public XAResource[] getXAResources() {
            try {
                return new XAResource[] {source.open()};
            } catch (Exception e) {
                return new XAResource[0];
            }
        }
    }

    /** What the manager was given for a scan, to be closed after it. */
    private final List<AutoCloseable> opened = new ArrayList<>();

    private XAResource brokersBranches() throws JMSException {
        XAConnection connection = broker.createXAConnection();
        opened.add(connection);
        return connection.createXASession().getXAResource();
    }

    private XAResource databasesBranches() throws SQLException {
        var connection = database.getXAConnection();
        opened.add(connection::close);
        return connection.getXAResource();
    }

    /** Lets the manager end what was left in doubt. */
    private void recover() {
        for (int i = 0; i < SCANS; i++) {
            recovery.scan();
            opened.forEach(Money::closeQuietly);
            opened.clear();
        }
    }

    private static void closeQuietly(AutoCloseable closeable) {
        try {
            closeable.close();
        } catch (Exception e) {
            // Its other end may be gone.
        }
    }

    public static void main(String[] args) {
        // The manager's own threads would keep the machine alive.
        try {
            Money money = new Money(args[1], args[2], args[3]);
            int count = Integer.parseInt(args[4]);
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
            recover();
            try {
                move();
            } catch (Exception e) {
                System.out.println("failed " + e);
            }
            try {
                if (manager.getTransaction() != null) {
                    manager.rollback();
                }
            } catch (Exception e) {
                System.out.println("failed " + e);
            }
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
                manager.begin();
                manager.getTransaction().enlistResource(session.getXAResource());
                manager.getTransaction().enlistResource(rows.getXAResource());
                Connection sql = rows.getConnection();
                boolean moved = toTable ? toTable(consumer, sql) : toQueue(session, producer, sql);
                manager.commit();
                if (moved) {
                    System.out.println("moved");
                }
            }
        } finally {
            closeQuietly(connection);
            closeQuietly(rows::close);
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
        do {
            recover();
        } while (brokersBranches().recover(XAResource.TMSTARTRSCAN).length > 0
            || databasesBranches().recover(XAResource.TMSTARTRSCAN).length > 0);
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
