import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import javax.jms.Connection;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.QueueBrowser;
import javax.jms.Session;
import org.apache.activemq.ScheduledMessage;
import org.apache.activemq.command.ActiveMQMessage;
import org.apache.activemq.command.ActiveMQQueue;

/** Messages that come again, come too often, come too late, or come later. */
final class Returning {
    /** A client that delivers again without its usual second of delay. */
    static final String AT_ONCE = "jms.redeliveryPolicy.initialRedeliveryDelay=1"
        + "&jms.redeliveryPolicy.redeliveryDelay=1";
    private static final ActiveMQQueue DEAD = new ActiveMQQueue("ActiveMQ.DLQ");

    static void a_rollback_delivers_again_and_counts(Stage stage) throws JMSException {
        stage.send(stage.queue("q"), "a", "b");
        Session session = stage.session(Session.SESSION_TRANSACTED, AT_ONCE);
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        for (int count = 1; count <= 4; count++) {
            Acknowledging.expectDelivery(Stage.next(consumer), "a", count);
            session.rollback();
        }
        Acknowledging.expectDelivery(Stage.next(consumer), "a", 5);
        Acknowledging.expectDelivery(Stage.next(consumer), "b", 1);
        session.commit();
        session.close();
        Stage.expect(List.of(), stage.drain(stage.queue("q")));
    }

    static void a_rollback_keeps_the_order(Stage stage) throws JMSException {
        stage.send(stage.queue("q"), "a", "b", "c", "d");
        Session session = stage.session(Session.SESSION_TRANSACTED, AT_ONCE);
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        Stage.expectTexts(consumer, "a", "b", "c");
        session.rollback();
        Stage.expectTexts(consumer, "a", "b", "c", "d");
        session.rollback();
        session.close();
        Stage.expect(List.of("a", "b", "c", "d"), stage.drain(stage.queue("q")));
    }

    static void what_a_lost_connection_saw_is_flagged(Stage stage) throws JMSException {
        stage.send(stage.queue("q"), "a", "b");
        Session session = stage.session(Session.SESSION_TRANSACTED);
        Stage.expectTexts(session.createConsumer(stage.queue("q")), "a");
        session.close();
        Session second = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer = second.createConsumer(stage.queue("q"));
        Acknowledging.expectDelivery(Stage.next(consumer), "a", 2);
        Acknowledging.expectDelivery(Stage.next(consumer), "b", 1);
    }

    static void what_came_too_often_is_set_apart(Stage stage) throws Exception {
        stage.send(stage.queue("q"), "poison", "sound");
        Session session = stage.session(Session.SESSION_TRANSACTED, AT_ONCE);
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        // The first time, and six again.
        for (int count = 1; count <= 7; count++) {
            Acknowledging.expectDelivery(Stage.next(consumer), "poison", count);
            session.rollback();
        }
        Acknowledging.expectDelivery(Stage.next(consumer), "sound", 1);
        session.commit();
        Message dead = nextDead(stage);
        Stage.expect("poison", Stage.text(dead));
        String cause = dead.getStringProperty("dlqDeliveryFailureCause");
        Stage.check(cause != null && !cause.isEmpty(), "no cause");
    }

    static void recover_too_often_sets_apart(Stage stage) throws Exception {
        stage.send(stage.queue("q"), "poison", "sound");
        String twice = AT_ONCE + "&jms.redeliveryPolicy.maximumRedeliveries=1";
        Session session = stage.session(Session.CLIENT_ACKNOWLEDGE, twice);
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        Stage.expectTexts(consumer, "poison");
        session.recover();
        Stage.expectTexts(consumer, "poison");
        session.recover();
        Stage.expectTexts(consumer, "sound");
        Stage.expect("poison", Stage.text(nextDead(stage)));
    }

    static void what_expires_in_the_queue_is_not_delivered(Stage stage) throws Exception {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        var producer = session.createProducer(stage.queue("q"));
        producer.setTimeToLive(100);
        Message late = session.createTextMessage("late");
        producer.send(late);
        producer.setTimeToLive(0);
        producer.send(session.createTextMessage("kept"));
        Stage.check(late.getJMSExpiration() > 0, "no expiration");
        while (System.currentTimeMillis() <= late.getJMSExpiration()) {
            Thread.onSpinWait();
        }
        Stage.expectTexts(session.createConsumer(stage.queue("q")), "kept");
        Message dead = nextDead(stage);
        Stage.expect("late", Stage.text(dead));
        Stage.expect(0L, dead.getJMSExpiration());
    }

    static void a_scheduled_message_waits_for_its_time(Stage stage) throws JMSException {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        Message later = session.createTextMessage("later");
        later.setLongProperty(ScheduledMessage.AMQ_SCHEDULED_DELAY, 600);
        long sent = System.nanoTime();
        session.createProducer(stage.queue("q")).send(later);
        session.createProducer(stage.queue("q")).send(session.createTextMessage("now"));
        Stage.expectTexts(consumer, "now", "later");
        long waited = (System.nanoTime() - sent) / 1_000_000;
        Stage.check(waited >= 590, "came after " + waited + " ms");
    }

    static void a_scheduled_message_repeats(Stage stage) throws JMSException {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        Message tick = session.createTextMessage("tick");
        tick.setLongProperty(ScheduledMessage.AMQ_SCHEDULED_DELAY, 100);
        tick.setLongProperty(ScheduledMessage.AMQ_SCHEDULED_PERIOD, 100);
        tick.setIntProperty(ScheduledMessage.AMQ_SCHEDULED_REPEAT, 2);
        session.createProducer(stage.queue("q")).send(tick);
        Stage.expectTexts(consumer, "tick", "tick", "tick");
        Stage.expectNothing(consumer);
    }

    static void a_scheduled_message_goes_to_several_queues(Stage stage) throws JMSException {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        Message later = session.createTextMessage("later");
        later.setLongProperty(ScheduledMessage.AMQ_SCHEDULED_DELAY, 200);
        String names = stage.named("a") + "," + stage.named("b");
        session.createProducer(new ActiveMQQueue(names)).send(later);
        Stage.expectTexts(session.createConsumer(stage.queue("a")), "later");
        Stage.expectTexts(session.createConsumer(stage.queue("b")), "later");
    }

    static void a_scheduled_publication_reaches_who_is_there_then(Stage stage)
        throws JMSException {
        Connection keeper = stage.connectAs(stage.named("client"));
        Session keeping = keeper.createSession(false, Session.AUTO_ACKNOWLEDGE);
        keeping.createDurableSubscriber(stage.topic("t"), "kept").close();
        Session session = stage.session(Session.SESSION_TRANSACTED);
        MessageProducer producer = session.createProducer(stage.topic("t"));
        for (boolean commits : new boolean[] {false, true}) {
            Message later = session.createTextMessage("" + commits);
            later.setLongProperty(ScheduledMessage.AMQ_SCHEDULED_DELAY, 2_000);
            producer.send(later);
            if (commits) {
                session.commit();
            } else {
                session.rollback();
            }
        }
        Session listening = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer listener = listening.createConsumer(stage.topic("t"), "JMSPriority = 4");
        Stage.expectTexts(listener, "true");
        Stage.expectNothing(listener);
        Stage.expectTexts(keeping.createDurableSubscriber(stage.topic("t"), "kept"), "true");
        keeper.close();
    }

    /** What was set apart of this story's queue `q`. Several stories may share that queue. */
    private static Message nextDead(Stage stage) throws Exception {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        AtomicReference<Message> dead = new AtomicReference<>();
        Stage.await("it is set apart", () -> {
            QueueBrowser browser = session.createBrowser(DEAD);
            for (var all = browser.getEnumeration(); all.hasMoreElements();) {
                ActiveMQMessage message = (ActiveMQMessage) all.nextElement();
                if (stage.queue("q").equals(message.getOriginalDestination())) {
                    dead.set(message);
                }
            }
            browser.close();
            return dead.get() != null;
        });
        return dead.get();
    }
}
