import java.util.ArrayList;
import java.util.List;
import javax.jms.Connection;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Session;
import org.apache.activemq.ActiveMQConnection;
import org.apache.activemq.advisory.AdvisorySupport;
import org.apache.activemq.command.ActiveMQMessage;
import org.apache.activemq.command.ActiveMQQueue;
import org.apache.activemq.command.ActiveMQTextMessage;
import org.apache.activemq.command.ActiveMQTopic;
import org.apache.activemq.command.ConnectionInfo;
import org.apache.activemq.command.ConsumerInfo;
import org.apache.activemq.command.RemoveInfo;

/** Topics, topics that feed queues, and the broker's own. */
final class Topics {
    static void a_topic_reaches_all_who_listen_now(Stage stage) throws JMSException {
        stage.send(stage.topic("t"), "before anyone");
        MessageConsumer[] consumers = new MessageConsumer[3];
        for (int i = 0; i < 3; i++) {
            Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
            consumers[i] = session.createConsumer(stage.topic("t"));
        }
        stage.send(stage.topic("t"), "a", "b");
        for (MessageConsumer consumer : consumers) {
            Stage.expectTexts(consumer, "a", "b");
        }
    }

    static void a_topic_goes_on_beyond_the_prefetch(Stage stage) throws JMSException {
        String[] texts = Acknowledging.numbered(200);
        String few = "jms.prefetchPolicy.topicPrefetch=10";
        MessageConsumer consumer =
            stage.session(Session.DUPS_OK_ACKNOWLEDGE, few).createConsumer(stage.topic("t"));
        stage.send(stage.topic("t"), texts);
        Stage.expectTexts(consumer, texts);
    }

    static void no_local_hears_others_alone(Stage stage) throws JMSException {
        Connection connection = stage.connect();
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer = session.createConsumer(stage.topic("t"), null, true);
        MessageConsumer all = session.createConsumer(stage.topic("t"));
        session.createProducer(stage.topic("t")).send(session.createTextMessage("own"));
        stage.send(stage.topic("t"), "another's");
        Stage.expectTexts(all, "own", "another's");
        Stage.expectTexts(consumer, "another's");
    }

    static void a_topic_transaction_is_heard_at_its_commit(Stage stage) throws JMSException {
        Session listening = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer = listening.createConsumer(stage.topic("t"));
        Session session = stage.session(Session.SESSION_TRANSACTED);
        var producer = session.createProducer(stage.topic("t"));
        producer.send(session.createTextMessage("never"));
        session.rollback();
        producer.send(session.createTextMessage("committed"));
        session.commit();
        Stage.expectTexts(consumer, "committed");
    }

    static void a_large_message_is_heard_and_kept(Stage stage) throws JMSException {
        String large = "x".repeat(3_000_000);
        Connection away = stage.connectAs(stage.named("client"));
        Session keeping = away.createSession(false, Session.AUTO_ACKNOWLEDGE);
        keeping.createDurableSubscriber(stage.topic("t"), "sub").close();
        MessageConsumer listening =
            stage.session(Session.AUTO_ACKNOWLEDGE).createConsumer(stage.topic("t"));
        Session session = stage.session(Session.SESSION_TRANSACTED);
        var producer = session.createProducer(stage.topic("t"));
        producer.send(session.createTextMessage("never" + large));
        session.rollback();
        producer.send(session.createTextMessage(large));
        session.commit();
        stage.send(stage.topic("t"), large + "alone", "small");
        Stage.expectTexts(listening, large, large + "alone", "small");
        MessageConsumer back = keeping.createDurableSubscriber(stage.topic("t"), "sub");
        Stage.expectTexts(back, large, large + "alone", "small");
    }

    static void a_virtual_topic_feeds_queues(Stage stage) throws JMSException {
        ActiveMQTopic topic = new ActiveMQTopic("VirtualTopic." + stage.named("t"));
        ActiveMQQueue ofA = new ActiveMQQueue("Consumer.a." + topic.getPhysicalName());
        ActiveMQQueue ofB = new ActiveMQQueue("Consumer.b." + topic.getPhysicalName());
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer direct = session.createConsumer(topic);
        session.createConsumer(ofA).close();
        MessageConsumer first = session.createConsumer(ofB);
        MessageConsumer second = session.createConsumer(ofB);
        stage.send(topic, "m0", "m1", "m2", "m3");
        Stage.expectTexts(direct, "m0", "m1", "m2", "m3");
        // Who consumes as b shares; what is for a waits until somebody comes.
        Stage.next(first);
        Stage.next(first);
        Stage.next(second);
        Stage.next(second);
        Stage.expect(List.of("m0", "m1", "m2", "m3"), stage.drain(ofA));
    }

    static void what_a_virtual_topic_fed_survives_a_crash(Stage stage) throws Exception {
        ActiveMQTopic topic = new ActiveMQTopic("VirtualTopic." + stage.named("t"));
        ActiveMQQueue queue = new ActiveMQQueue("Consumer.a." + topic.getPhysicalName());
        stage.session(Session.AUTO_ACKNOWLEDGE).createConsumer(queue).close();
        stage.send(topic, "m0");
        Session session = stage.session(Session.SESSION_TRANSACTED);
        var producer = session.createProducer(topic);
        producer.send(session.createTextMessage("m1"));
        producer.send(session.createTextMessage("m2"));
        session.commit();
        producer.send(session.createTextMessage("never committed"));
        stage.killBroker();
        stage.startBroker();
        Session second = stage.session(Session.SESSION_TRANSACTED);
        MessageConsumer consumer = second.createConsumer(queue);
        Stage.expectTexts(consumer, "m0", "m1", "m2");
        second.rollback();
        for (String text : List.of("m0", "m1", "m2")) {
            ActiveMQMessage next = (ActiveMQMessage) Stage.next(consumer);
            Stage.expect(text, Stage.text(next));
            Stage.expect(queue, next.getJMSDestination());
            Stage.expect(topic, next.getOriginalDestination());
        }
        second.commit();
        // What is sent to the queue itself is a message of a queue, and its alone.
        stage.send(queue, "m3");
        ActiveMQMessage last = (ActiveMQMessage) Stage.next(consumer);
        Stage.expect("m3", Stage.text(last));
        Stage.expect(null, last.getOriginalDestination());
    }

    static void what_several_queues_of_a_virtual_topic_give_up_is_acknowledged(Stage stage)
            throws JMSException {
        ActiveMQTopic topic = new ActiveMQTopic("VirtualTopic." + stage.named("t"));
        List<ActiveMQQueue> queues = List.of(
            new ActiveMQQueue("Consumer.a." + topic.getPhysicalName()),
            new ActiveMQQueue("Consumer.b." + topic.getPhysicalName()));
        Session opening = stage.session(Session.AUTO_ACKNOWLEDGE);
        for (ActiveMQQueue queue : queues) {
            opening.createConsumer(queue).close();
        }
        stage.send(topic, "m0", "m1");
        String never = "jms.redeliveryPolicy.maximumRedeliveries=0";
        for (ActiveMQQueue queue : queues) {
            Session session = stage.session(Session.CLIENT_ACKNOWLEDGE, never);
            MessageConsumer consumer = session.createConsumer(queue);
            for (String text : List.of("m0", "m1")) {
                Stage.expectTexts(consumer, text);
                session.recover();
            }
            Stage.expectNothing(consumer);
        }
        // Two of each id, where ActiveMQ itself sets one apart: an acknowledgement is of all.
        ActiveMQQueue dead = new ActiveMQQueue("ActiveMQ.DLQ");
        Session session = stage.session(Session.CLIENT_ACKNOWLEDGE);
        MessageConsumer consumer = session.createConsumer(dead);
        Stage.expectTexts(consumer, "m0");
        Message last = Stage.next(consumer);
        List<String> seen = new ArrayList<>();
        for (Message next; (next = consumer.receive(Stage.QUIET)) != null; last = next) {
            seen.add(Stage.text(next));
        }
        last.acknowledge();
        session.close();
        seen.addAll(stage.drain(dead));
        Stage.check(List.of(List.of(), List.of("m0", "m1")).contains(seen), "more is " + seen);
    }

    static void advisories_tell_of_consumers(Stage stage) throws JMSException {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        ActiveMQTopic about = AdvisorySupport.getConsumerAdvisoryTopic(stage.queue("q"));
        MessageConsumer advisories = session.createConsumer(about);
        Session other = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer = other.createConsumer(stage.queue("q"), "a = 1");
        ActiveMQMessage came = (ActiveMQMessage) Stage.next(advisories);
        Stage.expect("Advisory", came.getJMSType());
        Stage.expect(1, came.getIntProperty("consumerCount"));
        ConsumerInfo info = (ConsumerInfo) came.getDataStructure();
        Stage.expect(stage.queue("q"), info.getDestination());
        Stage.expect("a = 1", info.getSelector());
        consumer.close();
        ActiveMQMessage went = (ActiveMQMessage) Stage.next(advisories);
        Stage.expect(0, went.getIntProperty("consumerCount"));
        Stage.expect(info.getConsumerId(), ((RemoveInfo) went.getDataStructure()).getObjectId());
    }

    static void advisories_tell_of_what_is_there(Stage stage) throws JMSException {
        Session other = stage.session(Session.AUTO_ACKNOWLEDGE);
        other.createConsumer(stage.queue("q"));
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        // Whoever asks late hears of those who came before.
        ActiveMQTopic about = AdvisorySupport.getConsumerAdvisoryTopic(stage.queue("q"));
        ActiveMQMessage came = (ActiveMQMessage) Stage.next(session.createConsumer(about));
        ConsumerInfo info = (ConsumerInfo) came.getDataStructure();
        Stage.expect(stage.queue("q"), info.getDestination());
    }

    static void advisories_tell_of_connections(Stage stage) throws JMSException {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer advisories =
            session.createConsumer(AdvisorySupport.getConnectionAdvisoryTopic());
        String id = stage.named("client");
        stage.connect("jms.userName=somebody&jms.password=secret&jms.clientID=" + id);
        // Others connect as well.
        for (Object data; ; ) {
            data = ((ActiveMQMessage) Stage.next(advisories)).getDataStructure();
            if (data instanceof ConnectionInfo info && id.equals(info.getClientId())) {
                Stage.check(!"secret".equals(info.getPassword()), "it tells the password");
                return;
            }
        }
    }

    static void advisories_tell_of_what_expired_and_of_dead_letters(Stage stage)
        throws JMSException {
        ActiveMQQueue queue = stage.queue("q");
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer expired =
            session.createConsumer(AdvisorySupport.getExpiredMessageTopic(queue));
        MessageConsumer dead =
            session.createConsumer(AdvisorySupport.getMessageDLQdAdvisoryTopic(queue));
        Session other = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageProducer producer = other.createProducer(queue);
        producer.setTimeToLive(100);
        Message late = other.createTextMessage("late");
        late.setStringProperty("order", "o-1");
        producer.send(late);
        expectAbout(late, Stage.next(expired));
        ActiveMQMessage apart = expectAbout(late, Stage.next(dead));
        Stage.check(apart.getStringProperty("dlqDeliveryFailureCause") != null, "no cause");
        producer.setTimeToLive(0);
        Message poison = other.createTextMessage("poison");
        poison.setStringProperty("order", "o-2");
        producer.send(poison);
        String once = Returning.AT_ONCE + "&jms.redeliveryPolicy.maximumRedeliveries=0";
        Session reader = stage.session(Session.CLIENT_ACKNOWLEDGE, once);
        Stage.expectTexts(reader.createConsumer(queue), "poison");
        reader.recover();
        expectAbout(poison, Stage.next(dead));
        Stage.expectNothing(expired);
    }

    /** What an advisory is about: a message, without its body. */
    private static ActiveMQMessage expectAbout(Message sent, Message told) throws JMSException {
        Stage.expect("Advisory", told.getJMSType());
        Stage.expect(sent.getJMSMessageID(), told.getStringProperty("orignalMessageId"));
        Stage.expect(sent.getJMSDestination().toString(),
            told.getStringProperty("orignalDestination"));
        var about = (ActiveMQTextMessage) ((ActiveMQMessage) told).getDataStructure();
        Stage.expect(sent.getJMSMessageID(), about.getJMSMessageID());
        Stage.expect(sent.getJMSDestination(), about.getJMSDestination());
        Stage.expect(sent.getJMSExpiration(), about.getJMSExpiration());
        Stage.expect(sent.getStringProperty("order"), about.getStringProperty("order"));
        Stage.expect(null, about.getText());
        return about;
    }

    static void a_client_sees_which_destinations_there_are(Stage stage) throws Exception {
        stage.send(stage.queue("before"), "a");
        ActiveMQConnection connection = (ActiveMQConnection) stage.connect();
        var source = connection.getDestinationSource();
        Stage.await("it sees the queue", () -> source.getQueues().contains(stage.queue("before")));
        stage.session(Session.AUTO_ACKNOWLEDGE).createConsumer(stage.topic("later"));
        Stage.await("it sees the topic", () -> source.getTopics().contains(stage.topic("later")));
    }
}
