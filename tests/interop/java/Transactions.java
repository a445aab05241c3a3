import java.util.Arrays;
import java.util.List;
import javax.jms.Connection;
import javax.jms.DeliveryMode;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Session;

/** Local transactions: all or nothing. */
final class Transactions {
    static void a_commit_shows_what_was_sent(Stage stage) throws JMSException {
        Session session = stage.session(Session.SESSION_TRANSACTED);
        MessageProducer producer = session.createProducer(stage.queue("q"));
        producer.send(session.createTextMessage("a"));
        producer.send(session.createTextMessage("b"), DeliveryMode.NON_PERSISTENT, 4, 0);
        Stage.expect(List.of(), stage.drain(stage.queue("q")));
        session.commit();
        Stage.expect(List.of("a", "b"), stage.drain(stage.queue("q")));
    }

    static void a_rollback_forgets_what_was_sent(Stage stage) throws JMSException {
        Session session = stage.session(Session.SESSION_TRANSACTED);
        MessageProducer producer = session.createProducer(stage.queue("q"));
        producer.send(session.createTextMessage("never"));
        session.rollback();
        producer.send(session.createTextMessage("later"));
        session.commit();
        Stage.expect(List.of("later"), stage.drain(stage.queue("q")));
    }

    static void a_commit_consumes_what_was_received(Stage stage) throws JMSException {
        stage.send(stage.queue("in"), "a", "b", "c");
        Session session = stage.session(Session.SESSION_TRANSACTED);
        MessageConsumer consumer = session.createConsumer(stage.queue("in"));
        MessageProducer producer = session.createProducer(stage.queue("out"));
        for (int i = 0; i < 2; i++) {
            producer.send(Stage.next(consumer));
        }
        session.commit();
        Stage.next(consumer);
        session.close();
        Stage.expect(List.of("c"), stage.drain(stage.queue("in")));
        Stage.expect(List.of("a", "b"), stage.drain(stage.queue("out")));
    }

    static void a_commit_covers_a_consumer_that_was_closed(Stage stage) throws JMSException {
        stage.send(stage.queue("q"), "a", "b");
        Session session = stage.session(Session.SESSION_TRANSACTED);
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        Stage.expectTexts(consumer, "a");
        consumer.close();
        session.commit();
        Stage.expect(List.of("b"), stage.drain(stage.queue("q")));
    }

    static void a_lost_connection_rolls_back(Stage stage) throws JMSException {
        stage.send(stage.queue("in"), "a");
        Connection connection = stage.connect();
        Session session = connection.createSession(true, Session.SESSION_TRANSACTED);
        Message a = Stage.next(session.createConsumer(stage.queue("in")));
        session.createProducer(stage.queue("out")).send(a);
        connection.close();
        Stage.expect(List.of("a"), stage.drain(stage.queue("in")));
        Stage.expect(List.of(), stage.drain(stage.queue("out")));
    }

    static void a_commit_survives_a_crash(Stage stage) throws Exception {
        stage.send(stage.queue("in"), "a", "b");
        Session session = stage.session(Session.SESSION_TRANSACTED);
        MessageConsumer consumer = session.createConsumer(stage.queue("in"));
        MessageProducer producer = session.createProducer(stage.queue("out"));
        producer.send(Stage.next(consumer));
        session.commit();
        producer.send(Stage.next(consumer));
        stage.killBroker();
        stage.startBroker();
        Stage.expect(List.of("b"), stage.drain(stage.queue("in")));
        Stage.expect(List.of("a"), stage.drain(stage.queue("out")));
    }

    static void a_transaction_may_be_larger_than_the_prefetch(Stage stage) throws JMSException {
        String[] texts = Acknowledging.numbered(100);
        stage.send(stage.queue("q"), texts);
        Session session =
            stage.session(Session.SESSION_TRANSACTED, "jms.prefetchPolicy.queuePrefetch=10");
        Stage.expectTexts(session.createConsumer(stage.queue("q")), texts);
        session.commit();
        session.close();
        Stage.expect(List.of(), stage.drain(stage.queue("q")));
    }

    static void sessions_of_a_connection_have_their_own(Stage stage) throws JMSException {
        Connection connection = stage.connect();
        Session one = connection.createSession(true, Session.SESSION_TRANSACTED);
        Session two = connection.createSession(true, Session.SESSION_TRANSACTED);
        one.createProducer(stage.queue("q")).send(one.createTextMessage("one"));
        two.createProducer(stage.queue("q")).send(two.createTextMessage("two"));
        one.rollback();
        two.commit();
        Stage.expect(List.of("two"), stage.drain(stage.queue("q")));
    }

    static void a_thousand_operations_commit_at_once(Stage stage) throws JMSException {
        String[] texts = Acknowledging.numbered(1_000);
        Session session = stage.session(Session.SESSION_TRANSACTED);
        MessageProducer producer = session.createProducer(stage.queue("q"));
        for (String text : texts) {
            producer.send(session.createTextMessage(text));
        }
        session.commit();
        Session second = stage.session(Session.SESSION_TRANSACTED);
        Stage.expectTexts(second.createConsumer(stage.queue("q")), texts);
        second.commit();
        second.close();
        Stage.expect(List.of(), stage.drain(stage.queue("q")));
    }
}
