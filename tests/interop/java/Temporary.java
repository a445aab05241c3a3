import java.util.List;
import javax.jms.Connection;
import javax.jms.InvalidDestinationException;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.Session;
import javax.jms.TemporaryQueue;
import javax.jms.TemporaryTopic;

/** Destinations that live as long as a connection. */
final class Temporary {
    static void a_reply_comes_to_a_temporary_queue(Stage stage) throws JMSException {
        Session asking = stage.session(Session.AUTO_ACKNOWLEDGE);
        Session answering = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer questions = answering.createConsumer(stage.queue("q"));
        for (int i = 0; i < 20; i++) {
            // Made just now: whoever answers has heard of it nevertheless.
            TemporaryQueue replies = asking.createTemporaryQueue();
            MessageConsumer consumer = asking.createConsumer(replies);
            Message question = asking.createTextMessage("question " + i);
            question.setJMSReplyTo(replies);
            asking.createProducer(stage.queue("q")).send(question);
            Message asked = Stage.next(questions);
            Message answer = answering.createTextMessage("to " + Stage.text(asked));
            answering.createProducer(null).send(asked.getJMSReplyTo(), answer);
            Stage.expectTexts(consumer, "to question " + i);
            consumer.close();
            replies.delete();
        }
    }

    static void a_temporary_topic_reaches_its_makers_consumers(Stage stage) throws JMSException {
        Connection connection = stage.connect();
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        TemporaryTopic topic = session.createTemporaryTopic();
        MessageConsumer one = session.createConsumer(topic);
        MessageConsumer two = session.createConsumer(topic);
        session.createProducer(topic).send(session.createTextMessage("a"));
        Stage.expectTexts(one, "a");
        Stage.expectTexts(two, "a");
    }

    static void only_its_maker_consumes_from_it(Stage stage) throws JMSException {
        Session maker = stage.session(Session.AUTO_ACKNOWLEDGE);
        TemporaryQueue queue = maker.createTemporaryQueue();
        Session other = stage.session(Session.AUTO_ACKNOWLEDGE);
        Stage.fails(InvalidDestinationException.class, () -> other.createConsumer(queue));
    }

    static void what_was_deleted_takes_no_more(Stage stage) throws Exception {
        Session maker = stage.session(Session.AUTO_ACKNOWLEDGE);
        TemporaryQueue queue = maker.createTemporaryQueue();
        // A client that does not watch advisories leaves the judgement to the broker.
        Session other =
            stage.session(Session.AUTO_ACKNOWLEDGE, "jms.watchTopicAdvisories=false");
        other.createProducer(queue).send(other.createTextMessage("a"));
        Stage.expectTexts(maker.createConsumer(queue), "a");
        maker.close();
        queue.delete();
        Stage.fails(JMSException.class, () -> {
            other.createProducer(queue).send(other.createTextMessage("b"));
            return null;
        });
    }

    static void it_goes_with_its_connection(Stage stage) throws Exception {
        Connection connection = stage.connect();
        Session maker = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        TemporaryQueue queue = maker.createTemporaryQueue();
        Session other =
            stage.session(Session.AUTO_ACKNOWLEDGE, "jms.watchTopicAdvisories=false");
        var producer = other.createProducer(null);
        producer.send(queue, other.createTextMessage("a"));
        connection.close();
        Stage.fails(JMSException.class, () -> {
            producer.send(queue, other.createTextMessage("b"));
            return null;
        });
    }

    static void it_is_not_deleted_under_its_consumer(Stage stage) throws JMSException {
        Session maker = stage.session(Session.AUTO_ACKNOWLEDGE);
        TemporaryQueue queue = maker.createTemporaryQueue();
        MessageConsumer consumer = maker.createConsumer(queue);
        Stage.fails(JMSException.class, () -> {
            queue.delete();
            return null;
        });
        consumer.close();
        queue.delete();
    }
}
