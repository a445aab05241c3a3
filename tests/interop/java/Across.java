import java.util.Arrays;
import java.util.List;
import javax.jms.Connection;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Queue;
import javax.jms.Session;
import org.apache.activemq.advisory.AdvisorySupport;
import org.apache.activemq.command.ActiveMQMessage;
import org.apache.activemq.command.ActiveMQQueue;
import org.apache.activemq.command.ActiveMQTopic;
import org.apache.activemq.command.ConsumerInfo;

/** What crosses a bridge between two brokers: stories of messages that go from here to there. */
final class Across {
    private static final String[] TEXTS = Acknowledging.numbered(100);

    /** A consumer there draws what is sent here, each message once. */
    static void a_queue(Stage here, Stage there) throws Exception {
        Queue queue = new ActiveMQQueue("across.queue");
        // What waits already, and what comes.
        here.send(queue, Arrays.copyOf(TEXTS, 50));
        MessageConsumer consumer =
            there.session(Session.AUTO_ACKNOWLEDGE).createConsumer(queue);
        here.send(queue, Arrays.copyOfRange(TEXTS, 50, 100));
        Stage.expectTexts(consumer, TEXTS);
        Stage.expectNothing(consumer);
        Stage.expect(List.of(), here.drain(queue));
        // Without demand it stays.
        consumer.close();
        awaitDemand(here, AdvisorySupport.getConsumerAdvisoryTopic(queue), 0);
        here.send(queue, "stays");
        Stage.expect(List.of("stays"), here.drain(queue));
    }

    static void a_topic(Stage here, Stage there) throws Exception {
        ActiveMQTopic topic = new ActiveMQTopic("across.topic");
        MessageConsumer consumer =
            there.session(Session.AUTO_ACKNOWLEDGE).createConsumer(topic);
        awaitDemand(here, AdvisorySupport.getConsumerAdvisoryTopic(topic), 1);
        here.send(topic, TEXTS);
        Stage.expectTexts(consumer, TEXTS);
        Stage.expectNothing(consumer);
    }

    /** Who asks here is answered there, and the answer finds back. */
    static void an_answer(Stage here, Stage there) throws Exception {
        Queue queue = new ActiveMQQueue("across.asked");
        Session answering = there.session(Session.AUTO_ACKNOWLEDGE);
        MessageProducer answers = answering.createProducer(null);
        answering.createConsumer(queue).setMessageListener(asked -> {
            try {
                answers.send(asked.getJMSReplyTo(), answering.createTextMessage("answer"));
            } catch (JMSException e) {
                e.printStackTrace();
            }
        });
        Session asking = here.session(Session.AUTO_ACKNOWLEDGE);
        Queue back = asking.createTemporaryQueue();
        MessageConsumer consumer = asking.createConsumer(back);
        for (int i = 0; i < 10; i++) {
            Message question = asking.createTextMessage("question");
            question.setJMSReplyTo(back);
            asking.createProducer(queue).send(question);
            Stage.expectTexts(consumer, "answer");
        }
    }

    /** Large messages, and what another kind of body is. */
    static void a_large_message(Stage here, Stage there) throws Exception {
        Queue queue = new ActiveMQQueue("across.large");
        Session session = here.session(Session.AUTO_ACKNOWLEDGE);
        var message = session.createBytesMessage();
        byte[] bytes = new byte[3_000_000];
        Arrays.fill(bytes, (byte) 7);
        message.writeBytes(bytes);
        session.createProducer(queue).send(message);
        MessageConsumer consumer =
            there.session(Session.AUTO_ACKNOWLEDGE).createConsumer(queue);
        Stage.expect(3_000_000L, ((javax.jms.BytesMessage) Stage.next(consumer)).getBodyLength());
    }

    /** The broker there is killed while messages go over: nothing is lost, nothing comes twice. */
    static void a_crash(Stage here, Stage there) throws Exception {
        Queue queue = new ActiveMQQueue("across.crash");
        // It holds one message and leaves the others where they have come to.
        Connection drawing = there.connectFailover("jms.prefetchPolicy.all=1");
        MessageConsumer consumer =
            drawing.createSession(false, Session.CLIENT_ACKNOWLEDGE).createConsumer(queue);
        String[] texts = Acknowledging.numbered(2_000);
        Thread sender = new Thread(() -> {
            try {
                here.send(queue, texts);
            } catch (JMSException e) {
                e.printStackTrace();
            }
        });
        sender.start();
        Stage.next(consumer);
        there.killBroker();
        there.startBroker();
        sender.join();
        Stage.await("everything is there", () -> {
            try (Connection connection = here.factory("").createConnection()) {
                connection.start();
                Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
                return !session.createBrowser(queue).getEnumeration().hasMoreElements();
            }
        });
        drawing.close();
        List<String> came = there.drain(queue);
        Stage.expect(2_000, came.size());
        Stage.expect(2_000L, came.stream().distinct().count());
    }

    /** Waits until so many consumers are told of here: those of the bridge. */
    private static void awaitDemand(Stage here, ActiveMQTopic topic, int expected)
        throws Exception {
        Stage.await("demand is " + expected, () -> {
            try (Connection connection = here.factory("").createConnection()) {
                connection.start();
                Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
                MessageConsumer advisories = session.createConsumer(topic);
                int count = 0;
                for (Message next; (next = advisories.receive(100)) != null;) {
                    if (((ActiveMQMessage) next).getDataStructure() instanceof ConsumerInfo) {
                        count++;
                    } else {
                        count--;
                    }
                }
                return count == expected;
            }
        });
    }
}
