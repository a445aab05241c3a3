import static org.apache.activemq.ActiveMQSession.INDIVIDUAL_ACKNOWLEDGE;

import java.util.List;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.Session;

/** What each mode of acknowledgement consumes, and what it leaves. */
final class Acknowledging {
    static void auto_consumes_what_was_received(Stage stage) throws JMSException {
        stage.send(stage.queue("q"), "a", "b");
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        Stage.expectTexts(session.createConsumer(stage.queue("q")), "a");
        session.close();
        // What was sent ahead to a client that never saw it is no redelivery.
        Session second = stage.session(Session.AUTO_ACKNOWLEDGE);
        Message b = Stage.next(second.createConsumer(stage.queue("q")));
        Stage.expect("b", Stage.text(b));
        Stage.expect(false, b.getJMSRedelivered());
        second.close();
        Stage.expect(List.of(), stage.drain(stage.queue("q")));
    }

    static void dups_ok_consumes_what_was_received(Stage stage) throws JMSException {
        stage.send(stage.queue("q"), "a", "b", "c");
        Session session = stage.session(Session.DUPS_OK_ACKNOWLEDGE);
        Stage.expectTexts(session.createConsumer(stage.queue("q")), "a", "b");
        session.close();
        Stage.expect(List.of("c"), stage.drain(stage.queue("q")));
    }

    static void optimized_acknowledgements_consume_ranges(Stage stage) throws JMSException {
        String[] texts = numbered(40);
        stage.send(stage.queue("q"), texts);
        String options = "jms.optimizeAcknowledge=true&jms.prefetchPolicy.queuePrefetch=10";
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE, options);
        Stage.expectTexts(session.createConsumer(stage.queue("q")), texts);
        session.close();
        Stage.expect(List.of(), stage.drain(stage.queue("q")));
    }

    static void client_acknowledge_consumes_all_so_far(Stage stage) throws JMSException {
        stage.send(stage.queue("q"), "a", "b", "c", "d");
        Session session = stage.session(Session.CLIENT_ACKNOWLEDGE);
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        Stage.next(consumer);
        Stage.next(consumer);
        Stage.next(consumer).acknowledge();
        Stage.next(consumer);
        session.close();
        Stage.expect(List.of("d"), stage.drain(stage.queue("q")));
    }

    static void client_acknowledge_leaves_what_it_never_told(Stage stage) throws JMSException {
        stage.send(stage.queue("q"), "a", "b", "c");
        Session session = stage.session(Session.CLIENT_ACKNOWLEDGE);
        Stage.expectTexts(session.createConsumer(stage.queue("q")), "a", "b");
        session.close();
        Session second = stage.session(Session.CLIENT_ACKNOWLEDGE);
        MessageConsumer consumer = second.createConsumer(stage.queue("q"));
        expectDelivery(Stage.next(consumer), "a", 2);
        expectDelivery(Stage.next(consumer), "b", 2);
        expectDelivery(Stage.next(consumer), "c", 1);
    }

    static void client_acknowledge_goes_beyond_the_prefetch(Stage stage) throws JMSException {
        String[] texts = numbered(50);
        stage.send(stage.queue("q"), texts);
        Session session =
            stage.session(Session.CLIENT_ACKNOWLEDGE, "jms.prefetchPolicy.queuePrefetch=10");
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        Stage.expectTexts(consumer, java.util.Arrays.copyOf(texts, 49));
        Stage.next(consumer).acknowledge();
        session.close();
        Stage.expect(List.of(), stage.drain(stage.queue("q")));
    }

    static void individual_acknowledge_consumes_one(Stage stage) throws JMSException {
        stage.send(stage.queue("q"), "a", "b", "c");
        Session session = stage.session(INDIVIDUAL_ACKNOWLEDGE);
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        Stage.next(consumer);
        Message b = Stage.next(consumer);
        Stage.next(consumer);
        b.acknowledge();
        session.close();
        Stage.expect(List.of("a", "c"), stage.drain(stage.queue("q")));
    }

    static void synchronous_acknowledgements_are_answered(Stage stage) throws JMSException {
        stage.send(stage.queue("q"), "a", "b");
        Session session = stage.session(Session.CLIENT_ACKNOWLEDGE, "jms.sendAcksAsync=false");
        Stage.next(session.createConsumer(stage.queue("q"))).acknowledge();
        session.close();
        Stage.expect(List.of("b"), stage.drain(stage.queue("q")));
    }

    static void recover_delivers_again(Stage stage) throws JMSException {
        stage.send(stage.queue("q"), "a", "b", "c");
        Session session = stage.session(Session.CLIENT_ACKNOWLEDGE, Returning.AT_ONCE);
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        Stage.next(consumer).acknowledge();
        Stage.next(consumer);
        session.recover();
        expectDelivery(Stage.next(consumer), "b", 2);
        Message c = Stage.next(consumer);
        expectDelivery(c, "c", 1);
        c.acknowledge();
        session.close();
        Stage.expect(List.of(), stage.drain(stage.queue("q")));
    }

    static void acknowledged_stays_so_after_a_crash(Stage stage) throws Exception {
        stage.send(stage.queue("q"), "a", "b", "c");
        Session session = stage.session(Session.CLIENT_ACKNOWLEDGE, "jms.sendAcksAsync=false");
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        Stage.next(consumer);
        Stage.next(consumer).acknowledge();
        stage.killBroker();
        stage.startBroker();
        Stage.expect(List.of("c"), stage.drain(stage.queue("q")));
    }

    /** A text that arrives for the so manieth time. */
    static void expectDelivery(Message message, String text, int count) throws JMSException {
        Stage.expect(text, Stage.text(message));
        Stage.expect(count, message.getIntProperty("JMSXDeliveryCount"));
        Stage.expect(count > 1, message.getJMSRedelivered());
    }

    static String[] numbered(int count) {
        return java.util.stream.IntStream.range(0, count).mapToObj(i -> "m" + i)
            .toArray(String[]::new);
    }
}
