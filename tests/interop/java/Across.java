import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
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
        aQueue(here, there, "");
    }

    /** The same, where consumers there must say who they are. */
    static void a_queue_of_users(Stage here, Stage there) throws Exception {
        aQueue(here, there, "jms.userName=ann&jms.password=a");
    }

    private static void aQueue(Stage here, Stage there, String options) throws Exception {
        Queue queue = new ActiveMQQueue("across.queue");
        // What waits already, and what comes.
        here.send(queue, Arrays.copyOf(TEXTS, 50));
        MessageConsumer consumer =
            there.session(Session.AUTO_ACKNOWLEDGE, options).createConsumer(queue);
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

    /** Of what is sent here, the consumer there draws what its selector wants, and no more. */
    static void what_a_selector_wants(Stage here, Stage there) throws Exception {
        Queue queue = new ActiveMQQueue("across.selected");
        MessageConsumer consumer =
            there.session(Session.AUTO_ACKNOWLEDGE).createConsumer(queue, "wanted = TRUE");
        Session session = here.session(Session.AUTO_ACKNOWLEDGE);
        MessageProducer producer = session.createProducer(queue);
        for (int i = 0; i < 10; i++) {
            Message message = session.createTextMessage(TEXTS[i]);
            message.setBooleanProperty("wanted", i % 2 == 0);
            producer.send(message);
        }
        Stage.expectTexts(consumer, TEXTS[0], TEXTS[2], TEXTS[4], TEXTS[6], TEXTS[8]);
        List<String> others = List.of(TEXTS[1], TEXTS[3], TEXTS[5], TEXTS[7], TEXTS[9]);
        Stage.expect(others, here.drain(queue));
    }

    /** Who publishes and who subscribes are in a circle: each message comes by one way. */
    static void a_topic_in_a_circle(Stage here, Stage there) throws Exception {
        ActiveMQTopic topic = new ActiveMQTopic("across.circle");
        MessageConsumer consumer =
            there.session(Session.AUTO_ACKNOWLEDGE).createConsumer(topic);
        Set<String> came = new HashSet<>();
        // So often that every way is there before the last.
        for (int round = 0; round < 10; round++) {
            awaitDemand(here, AdvisorySupport.getConsumerAdvisoryTopic(topic), 1);
            String prefix = round + ".";
            String[] texts = Arrays.stream(TEXTS).map(prefix::concat).toArray(String[]::new);
            here.send(topic, texts);
            String last = texts[texts.length - 1];
            for (String text = null; !last.equals(text);) {
                text = Stage.text(Stage.next(consumer));
                Stage.check(came.add(text), "it comes twice: " + text);
            }
            Stage.expectNothing(consumer);
        }
        consumer.close();
        awaitDemand(here, AdvisorySupport.getConsumerAdvisoryTopic(topic), 0);
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

    /** Who has a durable subscription there and is away gets what is published here meanwhile. */
    static void a_durable_subscription(Stage here, Stage there) throws Exception {
        ActiveMQTopic topic = new ActiveMQTopic("across.durable");
        leaveSubscription(there, topic, here);
        here.send(topic, TEXTS);
        takeSubscription(here, there, topic);
    }

    /** Nobody has told the broker here of it: it was before the bridge. */
    static void a_subscription_is_left(Stage here, Stage there) throws Exception {
        leaveSubscription(there, new ActiveMQTopic("across.durable"), null);
    }

    static void a_subscription_is_known(Stage here, Stage there) throws Exception {
        ActiveMQTopic topic = new ActiveMQTopic("across.durable");
        awaitDemand(here, AdvisorySupport.getConsumerAdvisoryTopic(topic), 1);
        here.send(topic, TEXTS);
        takeSubscription(here, there, topic);
    }

    /** What is published here while the broker there is gone is kept for its subscribers. */
    static void a_durable_subscription_without_a_bridge(Stage here, Stage there) throws Exception {
        ActiveMQTopic topic = new ActiveMQTopic("across.durable");
        leaveSubscription(there, topic, here);
        there.killBroker();
        awaitDemand(here, AdvisorySupport.getConsumerAdvisoryTopic(topic), 0);
        here.send(topic, TEXTS);
        there.startBroker();
        takeSubscription(here, there, topic);
    }

    /** Goes when the broker here has heard of the subscription, if there is one. */
    private static void leaveSubscription(Stage there, ActiveMQTopic topic, Stage here)
        throws Exception {
        try (Connection connection = there.connectAs("away")) {
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            session.createDurableSubscriber(topic, "sub");
            if (here != null) {
                awaitDemand(here, AdvisorySupport.getConsumerAdvisoryTopic(topic), 1);
            }
        }
    }

    /** All of it is there, each message once, and with the subscription the demand ends. */
    private static void takeSubscription(Stage here, Stage there, ActiveMQTopic topic)
        throws Exception {
        Session session =
            there.connectAs("away").createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer = session.createDurableSubscriber(topic, "sub");
        Stage.expectTexts(consumer, TEXTS);
        Stage.expectNothing(consumer);
        consumer.close();
        session.unsubscribe("sub");
        awaitDemand(here, AdvisorySupport.getConsumerAdvisoryTopic(topic), 0);
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
