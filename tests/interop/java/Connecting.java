import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import javax.jms.Connection;
import javax.jms.InvalidClientIDException;
import javax.jms.JMSException;
import javax.jms.MessageConsumer;
import javax.jms.Session;
import org.apache.activemq.ActiveMQConnection;

/** How connections begin and end. */
final class Connecting {
    static void a_client_needs_no_id(Stage stage) throws JMSException {
        Session one = stage.session(Session.AUTO_ACKNOWLEDGE);
        stage.session(Session.AUTO_ACKNOWLEDGE);
        stage.send(stage.queue("q"), "hello");
        Stage.expectTexts(one.createConsumer(stage.queue("q")), "hello");
    }

    static void a_client_id_is_one_connections(Stage stage) throws JMSException {
        String id = stage.named("client");
        Connection first = stage.connectAs(id);
        Stage.expect(id, first.getClientID());
        InvalidClientIDException refused =
            Stage.fails(InvalidClientIDException.class, () -> stage.connectAs(id));
        Stage.check(refused.getMessage().contains(id), refused.getMessage());
        first.close();
        // Free again with the answer to the close.
        Stage.expect(id, stage.connectAs(id).getClientID());
    }

    static void an_idle_connection_is_kept_alive(Stage stage) throws Exception {
        Connection connection = stage.connect("wireFormat.maxInactivityDuration=450"
            + "&wireFormat.maxInactivityDurationInitalDelay=100");
        CompletableFuture<JMSException> failure = new CompletableFuture<>();
        connection.setExceptionListener(failure::complete);
        // Whoever hears nothing for 450 ms gives up: three times that without a message.
        Stage.fails(java.util.concurrent.TimeoutException.class,
            () -> failure.get(1_400, TimeUnit.MILLISECONDS));
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        stage.send(stage.queue("q"), "still there");
        Stage.expectTexts(consumer, "still there");
    }

    static void the_brokers_end_is_told(Stage stage) throws Exception {
        Connection connection = stage.connect();
        CompletableFuture<JMSException> failure = new CompletableFuture<>();
        connection.setExceptionListener(failure::complete);
        stage.killBroker();
        failure.get(Stage.PATIENCE, TimeUnit.MILLISECONDS);
        stage.startBroker();
    }

    static void a_broker_has_a_name(Stage stage) throws Exception {
        ActiveMQConnection connection = (ActiveMQConnection) stage.connect();
        Stage.await("the broker has told of itself", () -> connection.getBrokerInfo() != null);
        Stage.check(!connection.getBrokerName().isEmpty(), "no name");
    }

    static void old_versions_of_the_wire_are_spoken(Stage stage) throws JMSException {
        // Those that the client has; the others were spoken with its older packages.
        for (int version : new int[] {1, 9, 10, 11, 12}) {
            Connection connection = stage.connect("wireFormat.version=" + version);
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            MessageConsumer consumer = session.createConsumer(stage.queue("v" + version));
            var message = session.createTextMessage("version " + version);
            session.createProducer(stage.queue("v" + version)).send(message);
            Stage.expectTexts(consumer, "version " + version);
            connection.close();
        }
    }

    static void a_thousand_connections_come_and_go(Stage stage) throws JMSException {
        for (int i = 0; i < 1_000; i++) {
            // Without the advisories it is the door alone.
            Connection connection =
                stage.factory("jms.watchTopicAdvisories=false").createConnection();
            connection.start();
            connection.close();
        }
        stage.send(stage.queue("q"), "the last");
        Stage.expect(java.util.List.of("the last"), stage.drain(stage.queue("q")));
    }

    /** Of the JMS 2.0 these clients have no shared subscriptions, and no delays of a producer. */
    static void what_the_clients_refuse_by_themselves(Stage stage) throws JMSException {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        Stage.fails(UnsupportedOperationException.class,
            () -> session.createSharedConsumer(stage.topic("t"), "shared"));
        Stage.fails(UnsupportedOperationException.class,
            () -> session.createSharedDurableConsumer(stage.topic("t"), "shared"));
        Stage.fails(UnsupportedOperationException.class, () -> {
            session.createProducer(stage.queue("q")).setDeliveryDelay(1);
            return null;
        });
    }
}
