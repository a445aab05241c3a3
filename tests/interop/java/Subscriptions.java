import java.util.List;
import javax.jms.Connection;
import javax.jms.InvalidClientIDException;
import javax.jms.InvalidDestinationException;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Session;
import javax.jms.TextMessage;
import javax.jms.Topic;

/** Durable subscriptions: what a topic keeps for who is away. */
final class Subscriptions {
    /** A connection under the story's client id, and a subscriber on it. */
    private static MessageConsumer subscribe(Session session, Stage stage) throws JMSException {
        return session.createDurableSubscriber(stage.topic("t"), "sub");
    }

    private static Session online(Stage stage, int acknowledge) throws JMSException {
        Connection connection = stage.connectAs(stage.named("client"));
        return connection.createSession(acknowledge == Session.SESSION_TRANSACTED, acknowledge);
    }

    private static Connection offline(Stage stage) throws JMSException {
        Connection connection = stage.connectAs(stage.named("client"));
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        subscribe(session, stage);
        return connection;
    }

    static void who_was_away_hears_all(Stage stage) throws JMSException {
        offline(stage).close();
        stage.send(stage.topic("t"), "a", "b");
        Connection connection = stage.connectAs(stage.named("client"));
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer = subscribe(session, stage);
        stage.send(stage.topic("t"), "c");
        Stage.expectTexts(consumer, "a", "b", "c");
        connection.close();
        stage.send(stage.topic("t"), "d");
        Stage.expectTexts(subscribe(online(stage, Session.AUTO_ACKNOWLEDGE), stage), "d");
    }

    static void what_was_kept_survives_a_crash(Stage stage) throws Exception {
        offline(stage).close();
        stage.send(stage.topic("t"), "a", "b", "c");
        Connection connection = stage.connectAs(stage.named("client"));
        Session session = connection.createSession(true, Session.SESSION_TRANSACTED);
        Stage.expectTexts(subscribe(session, stage), "a");
        session.commit();
        stage.killBroker();
        stage.startBroker();
        Stage.expectTexts(subscribe(online(stage, Session.AUTO_ACKNOWLEDGE), stage), "b", "c");
    }

    static void a_subscription_counts_what_comes_again(Stage stage) throws JMSException {
        offline(stage).close();
        stage.send(stage.topic("t"), "a", "b");
        Connection connection = stage.connectAs(stage.named("client"));
        Session session = connection.createSession(false, Session.CLIENT_ACKNOWLEDGE);
        Stage.expectTexts(subscribe(session, stage), "a");
        connection.close();
        MessageConsumer consumer = subscribe(online(stage, Session.CLIENT_ACKNOWLEDGE), stage);
        Acknowledging.expectDelivery(Stage.next(consumer), "a", 2);
        Acknowledging.expectDelivery(Stage.next(consumer), "b", 1);
    }

    static void unsubscribed_keeps_nothing(Stage stage) throws JMSException {
        Connection connection = offline(stage);
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        // Not while somebody uses it.
        Stage.fails(JMSException.class, () -> {
            session.unsubscribe("sub");
            return null;
        });
        connection.close();
        stage.send(stage.topic("t"), "lost with it");
        Session second = online(stage, Session.AUTO_ACKNOWLEDGE);
        second.unsubscribe("sub");
        MessageConsumer consumer = subscribe(second, stage);
        stage.send(stage.topic("t"), "new");
        Stage.expectTexts(consumer, "new");
    }

    static void nobody_unsubscribes_from_what_is_not_there(Stage stage) throws JMSException {
        Session session = online(stage, Session.AUTO_ACKNOWLEDGE);
        Stage.fails(InvalidDestinationException.class, () -> {
            session.unsubscribe("never");
            return null;
        });
    }

    static void one_subscription_has_one_subscriber(Stage stage) throws JMSException {
        Session session = online(stage, Session.AUTO_ACKNOWLEDGE);
        subscribe(session, stage);
        Stage.fails(JMSException.class, () -> subscribe(session, stage));
    }

    static void another_selector_begins_anew(Stage stage) throws JMSException {
        offline(stage).close();
        stage.send(stage.topic("t"), "before");
        Session session = online(stage, Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer =
            session.createDurableSubscriber(stage.topic("t"), "sub", "a = 1", false);
        Session other = stage.session(Session.AUTO_ACKNOWLEDGE);
        for (int a = 0; a < 2; a++) {
            Message message = other.createTextMessage("a is " + a);
            message.setIntProperty("a", a);
            other.createProducer(stage.topic("t")).send(message);
        }
        Stage.expectTexts(consumer, "a is 1");
    }

    static void another_topic_begins_anew(Stage stage) throws JMSException {
        offline(stage).close();
        stage.send(stage.topic("t"), "before");
        Session session = online(stage, Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer = session.createDurableSubscriber(stage.topic("other"), "sub");
        stage.send(stage.topic("t"), "not any more");
        stage.send(stage.topic("other"), "after");
        Stage.expectTexts(consumer, "after");
    }

    static void what_was_committed_survives_a_crash(Stage stage) throws Exception {
        offline(stage).close();
        Session session = stage.session(Session.SESSION_TRANSACTED);
        MessageProducer producer = session.createProducer(stage.topic("t"));
        producer.send(session.createTextMessage("a"));
        producer.send(session.createTextMessage("b"));
        session.commit();
        producer.send(session.createTextMessage("never committed"));
        stage.killBroker();
        stage.startBroker();
        Session second = online(stage, Session.SESSION_TRANSACTED);
        MessageConsumer consumer = subscribe(second, stage);
        Stage.expectTexts(consumer, "a", "b");
        second.rollback();
        Stage.expectTexts(consumer, "a", "b");
        second.commit();
        stage.send(stage.topic("t"), "c");
        Stage.expectTexts(consumer, "c");
    }

    static void a_client_id_in_use_is_refused_and_keeps_its_subscription(Stage stage)
            throws JMSException {
        Session session = online(stage, Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer = subscribe(session, stage);
        Stage.fails(InvalidClientIDException.class,
            () -> online(stage, Session.AUTO_ACKNOWLEDGE));
        stage.send(stage.topic("t"), "a");
        Stage.expectTexts(consumer, "a");
    }

    static void a_selector_counts_for_who_is_away(Stage stage) throws JMSException {
        Connection connection = stage.connectAs(stage.named("client"));
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        session.createDurableSubscriber(stage.topic("t"), "sub", "a = 1", false);
        connection.close();
        Session other = stage.session(Session.AUTO_ACKNOWLEDGE);
        for (int a = 0; a < 2; a++) {
            Message message = other.createTextMessage("a is " + a);
            message.setIntProperty("a", a);
            other.createProducer(stage.topic("t")).send(message);
        }
        Session again = online(stage, Session.AUTO_ACKNOWLEDGE);
        Stage.expectTexts(
            again.createDurableSubscriber(stage.topic("t"), "sub", "a = 1", false), "a is 1");
    }

    static void a_subscription_without_its_own(Stage stage) throws JMSException {
        Connection connection = stage.connectAs(stage.named("client"));
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer =
            session.createDurableSubscriber(stage.topic("t"), "sub", null, true);
        session.createProducer(stage.topic("t")).send(session.createTextMessage("own"));
        stage.send(stage.topic("t"), "another's");
        Stage.expectTexts(consumer, "another's");
    }

    /** What comes next, with the topic that it names. */
    private static void expectOf(MessageConsumer consumer, String text, Topic of)
            throws JMSException {
        Message message = Stage.next(consumer);
        Stage.expect(text, ((TextMessage) message).getText());
        Stage.expect(of, message.getJMSDestination());
    }

    static void a_pattern_keeps_all_that_it_catches_and_each_tells_its_topic(Stage stage)
            throws Exception {
        Topic pattern = stage.topic("orders.>");
        Topic one = stage.topic("orders.a.new");
        Topic other = stage.topic("orders.b");
        Connection connection = stage.connectAs(stage.named("client"));
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        session.createDurableSubscriber(pattern, "sub");
        connection.close();
        stage.send(one, "a");
        stage.send(stage.topic("others"), "nobody's");
        Session transacted = stage.session(Session.SESSION_TRANSACTED);
        transacted.createProducer(other).send(transacted.createTextMessage("b"));
        transacted.commit();
        stage.killBroker();
        stage.startBroker();
        Session again = online(stage, Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer = again.createDurableSubscriber(pattern, "sub");
        expectOf(consumer, "a", one);
        expectOf(consumer, "b", other);
        stage.send(one, "c");
        expectOf(consumer, "c", one);
        consumer.close();
        again.unsubscribe("sub");
    }

    static void many_subscriptions_hear_one_publication(Stage stage) throws JMSException {
        Connection connection = stage.connectAs(stage.named("client"));
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageConsumer[] consumers = new MessageConsumer[100];
        for (int i = 0; i < consumers.length; i++) {
            consumers[i] = session.createDurableSubscriber(stage.topic("t"), "sub" + i);
        }
        stage.send(stage.topic("t"), "a", "b");
        for (MessageConsumer consumer : consumers) {
            Stage.expectTexts(consumer, "a", "b");
        }
    }
}
