import java.util.List;
import javax.jms.Connection;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Session;
import org.apache.activemq.ActiveMQConnection;
import org.apache.activemq.ActiveMQMessageConsumer;
import org.apache.activemq.command.ActiveMQQueue;
import org.apache.activemq.command.ActiveMQTopic;
import org.apache.activemq.command.ConsumerControl;

/** What a consumer says of itself in the name of its destination, and while it lives. */
final class Options {
    private static ActiveMQQueue queue(Stage stage, String options) {
        return new ActiveMQQueue(stage.named("q") + "?" + options);
    }

    private static ActiveMQTopic topic(Stage stage, String options) {
        return new ActiveMQTopic(stage.named("t") + "?" + options);
    }

    static void a_name_may_have_a_selector(Stage stage) throws JMSException {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer red =
            session.createConsumer(queue(stage, "consumer.selector=colour%20%3D%20'red'"));
        MessageProducer producer = session.createProducer(stage.queue("q"));
        for (String colour : List.of("green", "red", "blue")) {
            Message message = session.createTextMessage(colour);
            message.setStringProperty("colour", colour);
            producer.send(message);
        }
        Stage.expectTexts(red, "red");
        red.close();
        Stage.expect(List.of("green", "blue"), stage.drain(stage.queue("q")));
    }

    static void a_name_may_want_nothing_local(Stage stage) throws JMSException {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer others = session.createConsumer(topic(stage, "consumer.noLocal=true"));
        session.createProducer(stage.topic("t")).send(session.createTextMessage("own"));
        stage.send(stage.topic("t"), "another's");
        Stage.expectTexts(others, "another's");
    }

    static void a_name_may_have_a_window(Stage stage) throws Exception {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        var three = (ActiveMQMessageConsumer) session.createConsumer(
            queue(stage, "consumer.prefetchSize=3"));
        stage.send(stage.queue("q"), "a", "b", "c", "d", "e");
        Stage.await("it holds three", () -> three.getMessageSize() == 3);
        Stage.expect(List.of("d", "e"), stage.drain(stage.queue("q")));
        Stage.expectTexts(three, "a", "b", "c");
    }

    static void a_name_may_say_how_it_is_dispatched(Stage stage) throws JMSException {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer one =
            session.createConsumer(queue(stage, "consumer.dispatchAsync=false"));
        stage.send(stage.queue("q"), "a");
        Stage.expectTexts(one, "a");
    }

    static void a_name_with_many_options_means_them_all(Stage stage) throws Exception {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer plain = session.createConsumer(stage.queue("q"));
        var chosen = (ActiveMQMessageConsumer) session.createConsumer(queue(stage,
            "consumer.exclusive=true&consumer.priority=3&consumer.prefetchSize=2"));
        stage.send(stage.queue("q"), "a", "b", "c");
        Stage.await("it holds two", () -> chosen.getMessageSize() == 2);
        // The third waits for it, and goes to nobody else.
        Stage.expect(List.of(), stage.drain(stage.queue("q")));
        Stage.expectTexts(chosen, "a", "b", "c");
        chosen.close();
        stage.send(stage.queue("q"), "d");
        Stage.expectTexts(plain, "d");
    }

    static void an_option_that_is_none_is_refused(Stage stage) throws JMSException {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        Stage.fails(JMSException.class,
            () -> session.createConsumer(queue(stage, "consumer.prefetchSiez=1")));
    }

    static void a_slow_listener_keeps_the_newest(Stage stage) throws Exception {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        var slow = (ActiveMQMessageConsumer) session.createConsumer(topic(stage,
            "consumer.prefetchSize=5&consumer.maximumPendingMessageLimit=10"));
        MessageConsumer other = session.createConsumer(stage.topic("t"));
        String[] texts = Acknowledging.numbered(100);
        stage.send(stage.topic("t"), texts);
        // Who has not asked for less misses nothing.
        Stage.expectTexts(other, texts);
        Stage.await("it holds five", () -> slow.getMessageSize() == 5);
        Stage.expectTexts(slow, java.util.Arrays.copyOfRange(texts, 0, 5));
        Stage.expectTexts(slow, java.util.Arrays.copyOfRange(texts, 90, 100));
        stage.send(stage.topic("t"), "on it goes");
        Stage.expectTexts(slow, "on it goes");
    }

    static void a_retroactive_listener_hears_what_comes(Stage stage) throws JMSException {
        stage.send(stage.topic("t"), "before");
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer late = session.createConsumer(topic(stage, "consumer.retroactive=true"));
        stage.send(stage.topic("t"), "after");
        // Nothing is kept for who was not there, unless a durable subscription keeps it.
        Stage.expectTexts(late, "after");
    }

    static void a_window_changes_while_its_consumer_lives(Stage stage) throws Exception {
        Connection connection = stage.connect();
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        var consumer = (ActiveMQMessageConsumer) session.createConsumer(
            queue(stage, "consumer.prefetchSize=1"));
        stage.send(stage.queue("q"), "a", "b", "c", "d");
        Stage.await("it holds one", () -> consumer.getMessageSize() == 1);
        ConsumerControl control = new ConsumerControl();
        control.setConsumerId(consumer.getConsumerId());
        control.setDestination(stage.queue("q"));
        control.setPrefetch(3);
        ((ActiveMQConnection) connection).syncSendPacket(control);
        Stage.await("it holds three", () -> consumer.getMessageSize() == 3);
        Stage.expect(List.of("d"), stage.drain(stage.queue("q")));
    }

    static void many_times_the_window_fits_a_transaction(Stage stage) throws JMSException {
        String[] texts = Acknowledging.numbered(500);
        stage.send(stage.queue("q"), texts);
        Session session = stage.session(Session.SESSION_TRANSACTED);
        MessageConsumer consumer =
            session.createConsumer(queue(stage, "consumer.prefetchSize=10"));
        Stage.expectTexts(consumer, texts);
        session.rollback();
        // All of it is still the transaction's, and comes again in its order.
        Stage.expectTexts(consumer, texts);
        session.commit();
        session.close();
        Stage.expect(List.of(), stage.drain(stage.queue("q")));
    }
}
