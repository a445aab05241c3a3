import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import javax.jms.BytesMessage;
import javax.jms.Connection;
import javax.jms.DeliveryMode;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Session;

/** How many messages go, to whom, and how fast. */
final class Flow {
    static void a_prefetch_of_one_leaves_the_rest_to_others(Stage stage) throws Exception {
        String one = "jms.prefetchPolicy.queuePrefetch=1";
        Session busy = stage.session(Session.AUTO_ACKNOWLEDGE, one);
        CountDownLatch began = new CountDownLatch(1);
        CountDownLatch done = new CountDownLatch(1);
        List<String> seen = Collections.synchronizedList(new ArrayList<>());
        busy.createConsumer(stage.queue("q")).setMessageListener(message -> {
            try {
                seen.add(Stage.text(message));
                began.countDown();
                done.await();
            } catch (JMSException | InterruptedException e) {
                throw new IllegalStateException(e);
            }
        });
        stage.send(stage.queue("q"), "a");
        Stage.check(began.await(Stage.PATIENCE, TimeUnit.MILLISECONDS), "no first message");
        Session idle = stage.session(Session.AUTO_ACKNOWLEDGE, one);
        MessageConsumer consumer = idle.createConsumer(stage.queue("q"));
        stage.send(stage.queue("q"), "b", "c", "d");
        Stage.expectTexts(consumer, "b", "c", "d");
        done.countDown();
        Stage.expect(List.of("a"), seen);
    }

    static void a_prefetch_of_none_pulls(Stage stage) throws JMSException {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE, "jms.prefetchPolicy.all=0");
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        Stage.expect(null, consumer.receiveNoWait());
        Stage.expect(null, consumer.receive(50));
        stage.send(stage.queue("q"), "a", "b", "c");
        Stage.expect("a", Stage.text(consumer.receiveNoWait()));
        Stage.expect("b", Stage.text(consumer.receive(Stage.PATIENCE)));
        // Nothing lies at a client that pulls.
        Stage.expect(List.of("c"), stage.drain(stage.queue("q")));
        Stage.expect(null, consumer.receiveNoWait());
    }

    static void a_pull_waits_for_what_comes(Stage stage) throws Exception {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE, "jms.prefetchPolicy.all=0");
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        for (long timeout : new long[] {0, Stage.PATIENCE}) {
            List<String> seen = new ArrayList<>();
            Thread waiting = new Thread(() -> {
                try {
                    seen.add(Stage.text(consumer.receive(timeout)));
                } catch (JMSException e) {
                    seen.add(e.toString());
                }
            });
            waiting.start();
            Stage.await("it waits", () -> waiting.getState() == Thread.State.WAITING
                || waiting.getState() == Thread.State.TIMED_WAITING);
            stage.send(stage.queue("q"), "comes");
            waiting.join(Stage.PATIENCE);
            Stage.expect(List.of("comes"), seen);
        }
    }

    static void a_listener_hears_in_order(Stage stage) throws Exception {
        String[] texts = Acknowledging.numbered(500);
        List<String> heard = Collections.synchronizedList(new ArrayList<>());
        CountDownLatch all = new CountDownLatch(texts.length);
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        session.createConsumer(stage.queue("q")).setMessageListener(message -> {
            try {
                heard.add(Stage.text(message));
            } catch (JMSException e) {
                heard.add(e.toString());
            }
            all.countDown();
        });
        stage.send(stage.queue("q"), texts);
        Stage.check(all.await(Stage.PATIENCE, TimeUnit.MILLISECONDS), "not all came");
        Stage.expect(Arrays.asList(texts), heard);
    }

    static void a_stopped_connection_delivers_when_started(Stage stage) throws JMSException {
        Connection connection = stage.connect();
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        connection.stop();
        stage.send(stage.queue("q"), "a");
        Stage.expectNothing(consumer);
        connection.start();
        Stage.expectTexts(consumer, "a");
    }

    static void sends_that_nobody_awaits_arrive(Stage stage) throws JMSException {
        String[] texts = Acknowledging.numbered(2_000);
        Connection connection = stage.connect("jms.useAsyncSend=true");
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        MessageProducer producer = session.createProducer(stage.queue("q"));
        for (String text : texts) {
            producer.send(session.createTextMessage(text));
        }
        Stage.expectTexts(consumer, texts);
    }

    static void a_window_opens_as_sends_are_taken(Stage stage) throws JMSException {
        String window = "jms.useAsyncSend=true&jms.producerWindowSize=8192";
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE, window);
        for (int mode : new int[] {DeliveryMode.PERSISTENT, DeliveryMode.NON_PERSISTENT}) {
            MessageProducer producer = session.createProducer(stage.queue("q"));
            producer.setDeliveryMode(mode);
            for (int i = 0; i < 200; i++) {
                BytesMessage message = session.createBytesMessage();
                message.writeBytes(new byte[1_024]);
                producer.send(message);
            }
            producer.close();
        }
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        for (int i = 0; i < 400; i++) {
            Stage.next(consumer);
        }
    }

    static void a_connection_fills_a_queue_that_it_takes_from(Stage stage) throws JMSException {
        String[] texts = Acknowledging.numbered(200);
        int[] modes = {DeliveryMode.PERSISTENT, DeliveryMode.NON_PERSISTENT};
        for (int acknowledging : new int[] {Session.AUTO_ACKNOWLEDGE, Session.CLIENT_ACKNOWLEDGE}) {
            for (int mode : modes) {
                String options = "jms.useAsyncSend=true&jms.prefetchPolicy.queuePrefetch=1";
                Connection connection = stage.connect(options);
                Session sending = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
                MessageProducer producer = sending.createProducer(stage.queue(Stage.FEW));
                producer.setDeliveryMode(mode);
                Session taking = connection.createSession(false, acknowledging);
                MessageConsumer consumer = taking.createConsumer(stage.queue(Stage.FEW));
                // Nobody takes meanwhile: most of them wait for the room that is made below.
                for (String text : texts) {
                    producer.send(sending.createTextMessage(text));
                }
                for (String text : texts) {
                    Message message = Stage.next(consumer);
                    Stage.expect(text, Stage.text(message));
                    message.acknowledge();
                }
                connection.close();
            }
        }
    }

    static void who_sends_too_much_into_a_full_queue_is_told(Stage stage) throws Exception {
        Connection connection = stage.connect("jms.useAsyncSend=true");
        List<String> told = Collections.synchronizedList(new ArrayList<>());
        connection.setExceptionListener(problem -> told.add(String.valueOf(problem)));
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageProducer producer = session.createProducer(stage.queue(Stage.FEW));
        String text = "x".repeat(100_000);
        try {
            for (int i = 0; i < 500 && told.isEmpty(); i++) {
                producer.send(session.createTextMessage(text));
            }
        } catch (JMSException e) {
            told.add(e.toString());
        }
        Stage.await("it is told", () -> told.toString().contains("is full"));
        stage.send(stage.queue("q"), "others go on");
        Stage.expect(List.of("others go on"), stage.drain(stage.queue("q")));
        Stage.check(stage.drain(stage.queue(Stage.FEW)).size() >= 2, "what was there is gone");
    }

    static void a_producer_names_its_destination_late(Stage stage) throws JMSException {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageProducer producer = session.createProducer(null);
        producer.send(stage.queue("a"), session.createTextMessage("to a"));
        producer.send(stage.queue("b"), session.createTextMessage("to b"));
        Stage.expect(List.of("to a"), stage.drain(stage.queue("a")));
        Stage.expect(List.of("to b"), stage.drain(stage.queue("b")));
    }

    static void two_consumers_share_what_comes(Stage stage) throws JMSException {
        Session one = stage.session(Session.AUTO_ACKNOWLEDGE);
        Session two = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer first = one.createConsumer(stage.queue("q"));
        MessageConsumer second = two.createConsumer(stage.queue("q"));
        stage.send(stage.queue("q"), Acknowledging.numbered(20));
        for (int i = 0; i < 10; i++) {
            Stage.next(first);
            Stage.next(second);
        }
    }

    static void a_closed_consumer_leaves_what_it_never_saw(Stage stage) throws JMSException {
        String[] texts = Acknowledging.numbered(20);
        stage.send(stage.queue("q"), texts);
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer first = session.createConsumer(stage.queue("q"));
        Stage.expectTexts(first, "m0", "m1");
        first.close();
        MessageConsumer second = session.createConsumer(stage.queue("q"));
        for (int i = 2; i < texts.length; i++) {
            Acknowledging.expectDelivery(Stage.next(second), texts[i], 1);
        }
    }
}
