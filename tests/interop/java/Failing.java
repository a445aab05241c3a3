import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import javax.jms.Connection;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Session;
import javax.jms.TemporaryQueue;
import javax.jms.TransactionRolledBackException;

/** Clients that reconnect by themselves while the broker is killed and comes back. */
final class Failing {
    static void no_confirmed_send_is_lost_or_doubled(Stage stage) throws Exception {
        String[] texts = Acknowledging.numbered(300);
        Connection connection = stage.connectFailover("");
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageProducer producer = session.createProducer(stage.queue("q"));
        CountDownLatch[] marks = {new CountDownLatch(60), new CountDownLatch(180)};
        AtomicReference<JMSException> failure = new AtomicReference<>();
        Thread sending = new Thread(() -> {
            try {
                for (String text : texts) {
                    producer.send(session.createTextMessage(text));
                    for (CountDownLatch mark : marks) {
                        mark.countDown();
                    }
                }
            } catch (JMSException e) {
                failure.set(e);
            }
        });
        sending.start();
        for (CountDownLatch mark : marks) {
            Stage.check(mark.await(Stage.PATIENCE, TimeUnit.MILLISECONDS), "the sends hang");
            stage.killBroker();
            stage.startBroker();
        }
        sending.join(Stage.PATIENCE);
        Stage.check(!sending.isAlive(), "the sends hang");
        Stage.expect(null, failure.get());
        Stage.expect(Arrays.asList(texts), stage.drain(stage.queue("q")));
    }

    static void a_consumer_goes_on_after_a_crash(Stage stage) throws Exception {
        stage.send(stage.queue("q"), "a", "b", "c");
        Connection connection = stage.connectFailover("");
        Session session = connection.createSession(false, Session.CLIENT_ACKNOWLEDGE);
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        Message a = Stage.next(consumer);
        a.acknowledge();
        // An answer from the broker behind the acknowledgement: it is known there.
        session.createConsumer(stage.queue("other")).close();
        stage.send(stage.queue("q"), "d");
        stage.killBroker();
        stage.startBroker();
        List<String> rest = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            Message next = Stage.next(consumer);
            rest.add(Stage.text(next));
            next.acknowledge();
        }
        Stage.expect(List.of("b", "c", "d"), rest);
        Stage.expectNothing(consumer);
        Stage.expect(List.of(), deadOf(stage));
    }

    static void transactions_pass_every_message_once(Stage stage) throws Exception {
        String[] texts = Acknowledging.numbered(200);
        stage.send(stage.queue("in"), texts);
        Connection connection = stage.connectFailover("jms.redeliveryPolicy.maximumRedeliveries=-1"
            + "&" + Returning.AT_ONCE);
        Session session = connection.createSession(true, Session.SESSION_TRANSACTED);
        MessageConsumer consumer = session.createConsumer(stage.queue("in"));
        MessageProducer producer = session.createProducer(stage.queue("out"));
        CountDownLatch mark = new CountDownLatch(80);
        Thread passing = new Thread(() -> {
            for (int idle = 0; idle < 3;) {
                try {
                    Message message = consumer.receive(1_000);
                    idle = message == null ? idle + 1 : 0;
                    if (message != null) {
                        producer.send(message);
                        session.commit();
                        mark.countDown();
                    }
                } catch (TransactionRolledBackException e) {
                    // In doubt or undone: the message comes again, or it is done.
                } catch (JMSException e) {
                    throw new IllegalStateException(e);
                }
            }
        });
        passing.start();
        Stage.check(mark.await(Stage.PATIENCE, TimeUnit.MILLISECONDS), "nothing passes");
        stage.killBroker();
        stage.startBroker();
        passing.join(2 * Stage.PATIENCE);
        Stage.check(!passing.isAlive(), "it hangs");
        connection.close();
        Stage.expect(List.of(), deadOf(stage));
        Stage.expect(List.of(), stage.drain(stage.queue("in")));
        List<String> out = new ArrayList<>(stage.drain(stage.queue("out")));
        out.sort(null);
        Arrays.sort(texts);
        Stage.expect(Arrays.asList(texts), out);
    }

    static void a_temporary_queue_comes_back(Stage stage) throws Exception {
        Connection connection = stage.connectFailover("");
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        TemporaryQueue queue = session.createTemporaryQueue();
        MessageConsumer consumer = session.createConsumer(queue);
        stage.killBroker();
        stage.startBroker();
        session.createProducer(queue).send(session.createTextMessage("a"));
        Stage.expectTexts(consumer, "a");
    }

    static void a_subscription_goes_on_after_a_crash(Stage stage) throws Exception {
        Connection connection =
            stage.connectFailover("jms.clientID=" + stage.named("client"));
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer = session.createDurableSubscriber(stage.topic("t"), "sub");
        stage.send(stage.topic("t"), "a");
        Stage.expectTexts(consumer, "a");
        stage.killBroker();
        stage.startBroker();
        stage.send(stage.topic("t"), "b");
        Stage.expectTexts(consumer, "b");
    }

    private static List<String> deadOf(Stage stage) throws JMSException {
        return stage.drain(new org.apache.activemq.command.ActiveMQQueue("ActiveMQ.DLQ"));
    }
}
