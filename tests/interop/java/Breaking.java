import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import javax.jms.Connection;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.QueueBrowser;
import javax.jms.Session;
import javax.jms.TemporaryQueue;
import javax.jms.TransactionRolledBackException;
import org.apache.activemq.command.ActiveMQQueue;

/** Clients that come back while the broker still takes their old connection for a living one. */
final class Breaking {
    private static final ActiveMQQueue DEAD = new ActiveMQQueue("ActiveMQ.DLQ");

    static void what_the_old_connection_held_comes_again_flagged(Stage stage) throws Exception {
        stage.send(stage.queue("q"), "a", "b");
        try (Wire wire = new Wire(stage.address())) {
            Connection connection = stage.connectFailover(wire.address(), "");
            Session session = connection.createSession(false, Session.CLIENT_ACKNOWLEDGE);
            MessageConsumer consumer = session.createConsumer(stage.queue("q"));
            Stage.next(consumer).acknowledge();
            // An answer from the broker behind the acknowledgement: it is known there.
            session.createConsumer(stage.queue("other")).close();
            Message seen = Stage.next(consumer);
            Stage.expect("b", Stage.text(seen));
            Stage.expect(false, seen.getJMSRedelivered());
            wire.cut();
            Message again = Stage.next(consumer);
            Stage.expect("b", Stage.text(again));
            Stage.expect(true, again.getJMSRedelivered());
            stage.send(stage.queue("q"), "c");
            Message last = Stage.next(consumer);
            Stage.expect("c", Stage.text(last));
            Stage.expect(false, last.getJMSRedelivered());
            last.acknowledge();
            connection.close();
        }
        Stage.expect(List.of(), stage.drain(stage.queue("q")));
        Stage.expect(List.of(), stage.drain(DEAD));
    }

    static void a_send_whose_answer_was_lost_is_there_once(Stage stage) throws Exception {
        try (Wire wire = new Wire(stage.address())) {
            Connection connection = stage.connectFailover(wire.address(), "");
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            MessageProducer producer = session.createProducer(stage.queue("q"));
            producer.send(session.createTextMessage("a"));
            wire.loseAnswers();
            CompletableFuture<Void> sent = inBackground(
                () -> producer.send(session.createTextMessage("b")));
            awaitDepth(stage, "q", 2);
            Stage.fails(TimeoutException.class,
                () -> sent.get(Stage.QUIET, TimeUnit.MILLISECONDS));
            wire.cut();
            sent.get(Stage.PATIENCE, TimeUnit.MILLISECONDS);

            producer.send(session.createTextMessage("c"));
            connection.close();
        }
        Stage.expect(List.of("a", "b", "c"), stage.drain(stage.queue("q")));
    }

    static void who_comes_back_often_is_soon_served(Stage stage) throws Exception {
        String[] texts = Acknowledging.numbered(20);
        try (Wire wire = new Wire(stage.address())) {
            Connection connection = stage.connectFailover(wire.address(), "");
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            MessageProducer producer = session.createProducer(stage.queue("q"));
            long begun = System.nanoTime();
            for (String text : texts) {
                producer.send(session.createTextMessage(text));
                wire.cut();
            }
            long took = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - begun);
            // Each time a second of waiting for the connection that nobody reads were too long.
            Stage.check(took < Stage.PATIENCE, "it took " + took + " ms");
            connection.close();
        }
        Stage.expect(Arrays.asList(texts), stage.drain(stage.queue("q")));
    }

    static void a_temporary_queue_comes_along(Stage stage) throws Exception {
        try (Wire wire = new Wire(stage.address())) {
            Connection connection = stage.connectFailover(wire.address(), "");
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            TemporaryQueue back = session.createTemporaryQueue();
            MessageConsumer answers = session.createConsumer(back);
            Session other = stage.session(Session.AUTO_ACKNOWLEDGE);
            other.createConsumer(stage.queue("q")).setMessageListener(request -> {
                try {
                    other.createProducer(request.getJMSReplyTo()).send(request);
                } catch (JMSException e) {
                    throw new IllegalStateException(e);
                }
            });
            MessageProducer producer = session.createProducer(stage.queue("q"));
            for (String text : Acknowledging.numbered(5)) {
                wire.cut();
                Message request = session.createTextMessage(text);
                request.setJMSReplyTo(back);
                producer.send(request);
                Stage.expectTexts(answers, text);
            }
            connection.close();
        }
    }

    static void a_durable_subscription_comes_along(Stage stage) throws Exception {
        try (Wire wire = new Wire(stage.address())) {
            String client = "jms.clientID=" + stage.named("client");
            Connection connection = stage.connectFailover(wire.address(), client);
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            MessageConsumer consumer = session.createDurableSubscriber(stage.topic("t"), "sub");
            for (String text : Acknowledging.numbered(5)) {
                wire.cut();
                stage.send(stage.topic("t"), text);
                Stage.expectTexts(consumer, text);
                // An answer from the broker behind the acknowledgement: it is known there.
                session.createConsumer(stage.queue("other")).close();
            }
            Stage.expectNothing(consumer);
            connection.close();
        }
    }

    static void a_pull_comes_along(Stage stage) throws Exception {
        try (Wire wire = new Wire(stage.address())) {
            Connection connection = stage.connectFailover(wire.address(), "");
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            MessageConsumer consumer = session.createConsumer(
                new ActiveMQQueue(stage.named("q") + "?consumer.prefetchSize=0"));
            for (String text : Acknowledging.numbered(3)) {
                CompletableFuture<Void> received =
                    inBackground(() -> Stage.expectTexts(consumer, text));
                Stage.fails(TimeoutException.class,
                    () -> received.get(Stage.QUIET, TimeUnit.MILLISECONDS));
                wire.cut();
                stage.send(stage.queue("q"), text);
                received.get(Stage.PATIENCE, TimeUnit.MILLISECONDS);
            }
            connection.close();
        }
        Stage.expect(List.of(), stage.drain(stage.queue("q")));
    }

    static void a_listener_comes_along(Stage stage) throws Exception {
        String[] texts = Acknowledging.numbered(200);
        try (Wire wire = new Wire(stage.address())) {
            Connection connection = stage.connectFailover(wire.address(),
                "jms.redeliveryPolicy.maximumRedeliveries=-1&" + Returning.AT_ONCE);
            Session session = connection.createSession(true, Session.SESSION_TRANSACTED);
            Set<String> heard = Collections.synchronizedSet(new TreeSet<>());
            CountDownLatch mark = new CountDownLatch(50);
            session.createConsumer(new ActiveMQQueue(
                stage.named("q") + "?consumer.exclusive=true")).setMessageListener(message -> {
                    try {
                        String text = Stage.text(message);
                        session.commit();
                        Stage.check(heard.add(text), text + " is committed twice");
                        mark.countDown();
                    } catch (TransactionRolledBackException e) {
                        // It comes again, or the answer to its commit was lost.
                    } catch (JMSException e) {
                        throw new IllegalStateException(e);
                    }
                });
            stage.send(stage.queue("q"), texts);
            Stage.check(mark.await(Stage.PATIENCE, TimeUnit.MILLISECONDS), "nothing is heard");
            wire.cut();
            stage.send(stage.queue("q"), "last");
            Stage.await("it has heard the last", () -> heard.contains("last"));
            connection.close();
            // What was in doubt came again, or was done, or the client took it for a repetition and
            // held it back to the end.
            List<String> left = stage.drain(stage.queue("q"));
            Stage.check(left.size() <= 1, left + " are left");
            left.forEach(one -> Stage.check(!heard.contains(one), one + " was committed"));
        }
        Stage.expect(List.of(), stage.drain(DEAD));
    }

    static void transactions_outlive_their_connections(Stage stage) throws Exception {
        String[] texts = Acknowledging.numbered(120);
        stage.send(stage.queue("in"), texts);
        int[] after = {20, 60};
        try (Wire wire = new Wire(stage.address())) {
            Connection connection = stage.connectFailover(wire.address(),
                "jms.redeliveryPolicy.maximumRedeliveries=-1&" + Returning.AT_ONCE);
            CountDownLatch[] marks =
                Arrays.stream(after).mapToObj(CountDownLatch::new).toArray(CountDownLatch[]::new);
            Thread passing = new Thread(() -> pass(stage, connection, marks));
            passing.start();
            for (CountDownLatch mark : marks) {
                Stage.check(mark.await(Stage.PATIENCE, TimeUnit.MILLISECONDS), "nothing passes");
                wire.cut();
            }
            passing.join(2 * Stage.PATIENCE);
            Stage.check(!passing.isAlive(), "it hangs");
            connection.close();
        }
        Stage.expect(List.of(), stage.drain(DEAD));
        // What the client took for a repetition after a cut, and was none, stays with its consumer
        // to the end, and is there for the next one.
        List<String> left = stage.drain(stage.queue("in"));
        Stage.check(left.size() <= after.length, left + " are left");
        List<String> all = new ArrayList<>(stage.drain(stage.queue("out")));
        left.forEach(one -> Stage.check(!all.contains(one), one + " is in both"));
        all.addAll(left);
        all.sort(null);
        Arrays.sort(texts);
        Stage.expect(Arrays.asList(texts), all);
    }

    /** Moves message by message until nothing comes any more. */
    private static void pass(Stage stage, Connection connection, CountDownLatch[] marks) {
        try {
            Session session = connection.createSession(true, Session.SESSION_TRANSACTED);
            MessageConsumer consumer = session.createConsumer(stage.queue("in"));
            MessageProducer producer = session.createProducer(stage.queue("out"));
            for (int idle = 0; idle < 3;) {
                Message message = consumer.receive(1_000);
                idle = message == null ? idle + 1 : 0;
                if (message == null) {
                    continue;
                }
                try {
                    producer.send(message);
                    session.commit();
                    Arrays.stream(marks).forEach(CountDownLatch::countDown);
                } catch (TransactionRolledBackException e) {
                    // In doubt or undone: the message comes again, or it is done.
                } catch (javax.jms.IllegalStateException e) {
                    // It knows already that the transaction cannot be committed.
                    session.rollback();
                }
            }
        } catch (JMSException e) {
            throw new IllegalStateException(e);
        }
    }

    static void what_a_client_takes_for_a_double_is_not_given_up(Stage stage) throws Exception {
        String[] texts = Acknowledging.numbered(10);
        stage.send(stage.queue("q"), texts);
        Connection connection = stage.connectFailover("");
        Session transacted = connection.createSession(true, Session.SESSION_TRANSACTED);
        MessageConsumer first = transacted.createConsumer(
            new ActiveMQQueue(stage.named("q") + "?consumer.prefetchSize=1"));
        Stage.expectTexts(first, texts);
        // After the crash most of them come to this one, and the client knows them from the other.
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        session.createConsumer(stage.queue("q"));
        stage.killBroker();
        stage.startBroker();
        Stage.fails(TransactionRolledBackException.class, () -> {
            transacted.commit();
            return null;
        });
        connection.close();
        Stage.expect(List.of(), stage.drain(DEAD));
        List<String> left = new ArrayList<>(stage.drain(stage.queue("q")));
        left.sort(null);
        Stage.expect(Arrays.asList(texts), left);
    }

    /** Something of the JMS that is done with a connection that breaks. */
    interface Action {
        void run() throws Exception;
    }

    static CompletableFuture<Void> inBackground(Action action) {
        CompletableFuture<Void> done = new CompletableFuture<>();
        Thread thread = new Thread(() -> {
            try {
                action.run();
                done.complete(null);
            } catch (Throwable e) {
                done.completeExceptionally(e);
            }
        });
        thread.setDaemon(true);
        thread.start();
        return done;
    }

    /** Until so many messages wait in a queue of the story, as another connection sees it. */
    static void awaitDepth(Stage stage, String queue, int depth) throws Exception {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        Stage.await(depth + " messages are in " + queue, () -> {
            QueueBrowser browser = session.createBrowser(stage.queue(queue));
            int count = 0;
            for (var all = browser.getEnumeration(); all.hasMoreElements(); all.nextElement()) {
                count++;
            }
            browser.close();
            return count == depth;
        });
    }
}
