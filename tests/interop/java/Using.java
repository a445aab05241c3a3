import java.net.URL;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import javax.jms.Connection;
import javax.jms.ConnectionConsumer;
import javax.jms.JMSConsumer;
import javax.jms.JMSContext;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.QueueConnection;
import javax.jms.QueueRequestor;
import javax.jms.QueueSession;
import javax.jms.ServerSession;
import javax.jms.ServerSessionPool;
import javax.jms.Session;
import org.apache.activemq.ActiveMQConnection;
import org.apache.activemq.ActiveMQConnectionFactory;
import org.apache.activemq.ActiveMQMessageProducer;
import org.apache.activemq.ActiveMQSession;
import org.apache.activemq.AsyncCallback;
import org.apache.activemq.BlobMessage;

/** Less usual ways to use a client: those of servers, of the JMS 2.0, and of many settings. */
final class Using {
    static void a_server_gives_its_own_sessions(Stage stage) throws Exception {
        Connection connection = stage.connect();
        BlockingQueue<String> heard = new LinkedBlockingQueue<>();
        Session session = connection.createSession(true, Session.SESSION_TRANSACTED);
        session.setMessageListener(message -> {
            try {
                // Heard only then: what is not committed goes back when its consumer closes.
                session.commit();
                heard.add(Stage.text(message));
            } catch (JMSException e) {
                heard.add(e.toString());
            }
        });
        ServerSession one = new ServerSession() {
            @Override
            public Session getSession() {
                return session;
            }

            @Override
            public void start() {
                // Not on the thread that reads the socket: a commit waits for an answer there.
                new Thread(session).start();
            }
        };
        ServerSessionPool pool = () -> one;
        ConnectionConsumer consumer =
            connection.createConnectionConsumer(stage.queue("q"), "colour = 'red'", pool, 10);
        MessageProducer producer =
            stage.session(Session.AUTO_ACKNOWLEDGE).createProducer(stage.queue("q"));
        for (String colour : List.of("red", "green", "red")) {
            Message message = session.createTextMessage(colour);
            message.setStringProperty("colour", colour);
            producer.send(message);
        }
        for (int i = 0; i < 2; i++) {
            Stage.expect("red", heard.poll(Stage.PATIENCE, TimeUnit.MILLISECONDS));
        }
        consumer.close();
        Stage.expect(List.of("green"), stage.drain(stage.queue("q")));
    }

    static void a_requestor_has_its_answer(Stage stage) throws Exception {
        Session answering = stage.session(Session.AUTO_ACKNOWLEDGE);
        answering.createConsumer(stage.queue("q")).setMessageListener(request -> {
            try {
                Message answer = answering.createTextMessage("re: " + Stage.text(request));
                answer.setJMSCorrelationID(request.getJMSMessageID());
                answering.createProducer(request.getJMSReplyTo()).send(answer);
            } catch (JMSException e) {
                throw new IllegalStateException(e);
            }
        });
        QueueConnection connection = (QueueConnection) stage.connect();
        QueueSession session = connection.createQueueSession(false, Session.AUTO_ACKNOWLEDGE);
        QueueRequestor requestor = new QueueRequestor(session, stage.queue("q"));
        Stage.expect("re: a", Stage.text(requestor.request(session.createTextMessage("a"))));
        Stage.expect("re: b", Stage.text(requestor.request(session.createTextMessage("b"))));
        requestor.close();
    }

    static void a_context_sends_and_receives(Stage stage) throws Exception {
        try (JMSContext context = stage.factory("").createContext()) {
            context.createProducer().setPriority(7).setProperty("n", 5).setJMSType("kind")
                .send(stage.queue("q"), "text");
            context.createProducer().send(stage.queue("q"), new byte[] {1, 2});
            JMSConsumer consumer = context.createConsumer(stage.queue("q"));
            Message first = consumer.receive(Stage.PATIENCE);
            Stage.expect("text", first.getBody(String.class));
            Stage.expect(7, first.getJMSPriority());
            Stage.expect(5, first.getIntProperty("n"));
            Stage.expect("kind", first.getJMSType());
            byte[] body = consumer.receive(Stage.PATIENCE).getBody(byte[].class);
            Stage.expect(List.of((byte) 1, (byte) 2), List.of(body[0], body[1]));
        }
        Stage.expect(List.of(), stage.drain(stage.queue("q")));
    }

    static void a_context_has_durable_consumers(Stage stage) throws Exception {
        for (String text : List.of("first", "second")) {
            try (JMSContext context = stage.factory("").createContext()) {
                context.setClientID(stage.named("client"));
                JMSConsumer consumer = context.createDurableConsumer(stage.topic("t"), "sub");
                if (text.equals("first")) {
                    stage.send(stage.topic("t"), "first");
                }
                Message heard = consumer.receive(Stage.PATIENCE);
                Stage.expect(text, heard.getBody(String.class));
                consumer.close();
                if (text.equals("first")) {
                    stage.send(stage.topic("t"), "second");
                } else {
                    context.unsubscribe("sub");
                }
            }
        }
    }

    static void a_blob_is_found_by_its_address(Stage stage) throws Exception {
        ActiveMQSession session = (ActiveMQSession) stage.session(Session.AUTO_ACKNOWLEDGE);
        BlobMessage blob = session.createBlobMessage(new URL("http://example.org/file"));
        session.createProducer(stage.queue("q")).send(blob);
        BlobMessage found = (BlobMessage) Stage.next(session.createConsumer(stage.queue("q")));
        Stage.expect("http://example.org/file", found.getURL().toString());
    }

    /** Settings of a connection, each of which changes how the client speaks. */
    static void settings_change_nothing_of_what_is_promised(Stage stage) throws Exception {
        String[] texts = Acknowledging.numbered(30);
        for (String options : List.of("jms.exclusiveConsumer=true", "jms.dispatchAsync=false",
            "jms.alwaysSyncSend=true", "jms.useAsyncSend=true", "jms.sendTimeout=5000",
            "jms.checkForDuplicates=false", "jms.messagePrioritySupported=true",
            "jms.nonBlockingRedelivery=true", "jms.alwaysSessionAsync=false",
            "jms.copyMessageOnSend=false", "jms.disableTimeStampsByDefault=true",
            "jms.optimizeAcknowledge=true", "jms.optimizedMessageDispatch=false",
            "jms.watchTopicAdvisories=false", "jms.useCompression=true",
            "jms.useDedicatedTaskRunner=true", "jms.producerWindowSize=4096",
            "jms.closeTimeout=5000", "jms.statsEnabled=true", "jms.prefetchPolicy.all=1",
            "jms.sendAcksAsync=false", "jms.consumerExpiryCheckEnabled=false",
            "jms.transactedIndividualAck=true", "jms.rmIdFromConnectionId=true",
            "wireFormat.tightEncodingEnabled=false", "wireFormat.cacheEnabled=false",
            "wireFormat.sizePrefixDisabled=false", "wireFormat.stackTraceEnabled=false",
            "wireFormat.maxInactivityDuration=0", "wireFormat.maxFrameSize=1048576",
            "tcpNoDelay=true", "keepAlive=true", "soTimeout=30000",
            "wireFormat.maxFrameSizeEnabled=false")) {
            try (Connection connection = stage.factory(options).createConnection()) {
                connection.start();
                Session session = connection.createSession(true, Session.SESSION_TRANSACTED);
                MessageProducer producer = session.createProducer(stage.queue("q"));
                for (String text : texts) {
                    producer.send(session.createTextMessage(text));
                }
                session.rollback();
                for (String text : texts) {
                    producer.send(session.createTextMessage(text));
                }
                session.commit();
                MessageConsumer consumer = session.createConsumer(stage.queue("q"));
                List<String> found = new ArrayList<>();
                for (int i = 0; i < texts.length; i++) {
                    found.add(Stage.text(Stage.next(consumer)));
                }
                Stage.expect(options + Arrays.asList(texts), options + found);
                session.commit();
            }
            Stage.expect(options + List.of(), options + stage.drain(stage.queue("q")));
        }
    }

    static void each_redelivery_of_a_batch_may_be_settled_by_itself(Stage stage)
            throws Exception {
        stage.send(stage.queue("q"), "a", "b", "c");
        Session session = stage.session(Session.SESSION_TRANSACTED,
            "jms.transactedIndividualAck=true&" + Returning.AT_ONCE);
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        Stage.expectTexts(consumer, "a", "b");
        session.rollback();
        Stage.expectTexts(consumer, "a", "b", "c");
        session.commit();
        session.close();
        Stage.expect(List.of(), stage.drain(stage.queue("q")));
    }

    static void redeliveries_that_wait_let_others_by(Stage stage) throws Exception {
        stage.send(stage.queue("q"), "a", "b");
        BlockingQueue<String> heard = new LinkedBlockingQueue<>();
        Session session = stage.session(Session.SESSION_TRANSACTED,
            "jms.nonBlockingRedelivery=true&jms.redeliveryPolicy.initialRedeliveryDelay=300"
            + "&jms.redeliveryPolicy.redeliveryDelay=300");
        session.createConsumer(stage.queue("q")).setMessageListener(message -> {
            try {
                boolean again = message.getJMSRedelivered();
                String text = Stage.text(message);
                heard.add(text + (again ? " again" : ""));
                if (text.equals("a") && !again) {
                    session.rollback();
                } else {
                    session.commit();
                }
            } catch (JMSException e) {
                heard.add(e.toString());
            }
        });
        List<String> all = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            all.add(heard.poll(Stage.PATIENCE, TimeUnit.MILLISECONDS));
        }
        Stage.expect(List.of("a", "b", "a again"), all);
        session.close();
        Stage.expect(List.of(), stage.drain(stage.queue("q")));
    }

    static void other_transports_carry_the_same(Stage stage) throws Exception {
        String host = stage.address().substring("tcp".length());
        for (String url : List.of("nio" + host, "failover:(nio" + host + ")",
            "failover:(tcp://127.0.0.1:1,tcp" + host + ")?randomize=false",
            "failover:(tcp" + host + ")?backup=true&trackMessages=true",
            "failover:(tcp" + host + ")?priorityBackup=true&timeout=5000",
            "discovery:(static:(tcp" + host + "))")) {
            try (Connection connection = new ActiveMQConnectionFactory(url).createConnection()) {
                connection.start();
                Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
                MessageConsumer consumer = session.createConsumer(stage.queue("q"));
                session.createProducer(stage.queue("q")).send(session.createTextMessage(url));
                Stage.expectTexts(consumer, url);
            } catch (Exception e) {
                throw new AssertionError(url + ": " + e, e);
            }
        }
    }

    static void a_send_may_be_told_of_later(Stage stage) throws Exception {
        ActiveMQSession session = (ActiveMQSession) stage.session(Session.AUTO_ACKNOWLEDGE);
        var producer = (ActiveMQMessageProducer) session.createProducer(stage.queue("q"));
        BlockingQueue<String> told = new LinkedBlockingQueue<>();
        for (String text : List.of("a", "b")) {
            producer.send(session.createTextMessage(text),
                new AsyncCallback() {
                    @Override
                    public void onSuccess() {
                        told.add("done");
                    }

                    @Override
                    public void onException(JMSException e) {
                        told.add(e.toString());
                    }
                });
        }
        Stage.expect("done", told.poll(Stage.PATIENCE, TimeUnit.MILLISECONDS));
        Stage.expect("done", told.poll(Stage.PATIENCE, TimeUnit.MILLISECONDS));
        Stage.expect(List.of("a", "b"), stage.drain(stage.queue("q")));
    }

    static void a_queue_in_use_is_not_destroyed(Stage stage)
            throws Exception {
        ActiveMQConnection connection = (ActiveMQConnection) stage.connect();
        stage.send(stage.queue("q"), "a", "b");
        connection.destroyDestination(stage.queue("q"));
        Stage.expect(List.of(), stage.drain(stage.queue("q")));
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer = session.createConsumer(stage.queue("q"));
        Stage.fails(JMSException.class, () -> {
            connection.destroyDestination(stage.queue("q"));
            return null;
        });
        stage.send(stage.queue("q"), "c");
        Stage.expectTexts(consumer, "c");
    }
}
