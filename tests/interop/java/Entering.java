import java.io.ByteArrayInputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.List;
import javax.jms.Connection;
import javax.jms.Destination;
import javax.jms.JMSException;
import javax.jms.JMSSecurityException;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Queue;
import javax.jms.Session;
import javax.jms.TemporaryQueue;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.TrustManagerFactory;
import org.apache.activemq.ActiveMQConnection;
import org.apache.activemq.ActiveMQSslConnectionFactory;
import org.apache.activemq.command.ActiveMQQueue;
import org.apache.activemq.command.ActiveMQTopic;

/**
 * Who is let in, and what he may do there: stories of a broker with users, and of the folder with
 * their certificates. Ann has the password `a` and a certificate; she may send to `in`, consume
 * from `out`, and do all with `own`. She may publish on `VirtualTopic.prices`, consume from the
 * queues `Consumer.desk` of virtual topics, and from all below `open`; there bob may send.
 */
final class Entering {
    static void passwords_are_asked_for(Stage stage, Stage files) throws Exception {
        stage.connect("jms.userName=ann&jms.password=a");
        for (String wrong : List.of("jms.userName=ann&jms.password=b", "jms.userName=ann",
            "jms.userName=eve&jms.password=a", "")) {
            Stage.fails(JMSSecurityException.class, () -> stage.connect(wrong));
        }
    }

    static void rights_are_kept_to(Stage stage, Stage files) throws Exception {
        ActiveMQConnection connection =
            (ActiveMQConnection) stage.connect("jms.userName=ann&jms.password=a");
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        ActiveMQQueue in = new ActiveMQQueue("in");
        ActiveMQQueue out = new ActiveMQQueue("out");
        ActiveMQQueue own = new ActiveMQQueue("own");
        session.createProducer(in).send(session.createTextMessage("sent"));
        session.createConsumer(out).close();
        Stage.fails(JMSException.class, () -> {
            session.createProducer(out).send(session.createTextMessage("not sent"));
            return null;
        });
        Stage.fails(JMSException.class, () -> session.createConsumer(in));
        Stage.fails(JMSException.class,
            () -> session.createBrowser(in).getEnumeration().hasMoreElements());
        Stage.fails(JMSException.class, () -> {
            connection.destroyDestination(in);
            return null;
        });
        // All of that has cost nothing: what is allowed goes on.
        MessageProducer producer = session.createProducer(own);
        producer.send(session.createTextMessage("own"));
        Stage.expectTexts(session.createConsumer(own), "own");
        // Of a transaction with something forbidden nothing happens.
        Session transacted = connection.createSession(true, Session.SESSION_TRANSACTED);
        Stage.fails(JMSException.class, () -> {
            transacted.createProducer(own).send(transacted.createTextMessage("with it"));
            transacted.createProducer(out).send(transacted.createTextMessage("not sent"));
            transacted.commit();
            return null;
        });
        transacted.rollback();
        Stage.expectNothing(session.createConsumer(own));
        // What is temporary is its connection's own.
        Queue back = session.createTemporaryQueue();
        session.createProducer(back).send(session.createTextMessage("back"));
        Stage.expectTexts(session.createConsumer(back), "back");
    }

    static void rights_reach_names_of_many_and_what_is_temporary(Stage stage, Stage files)
            throws Exception {
        Session ann = stage.session(Session.AUTO_ACKNOWLEDGE, "jms.userName=ann&jms.password=a");
        Session bob = stage.session(Session.AUTO_ACKNOWLEDGE, "jms.userName=bob&jms.password=b");
        // Of a virtual topic, to publish is one thing and to read from a queue of it another.
        ActiveMQTopic prices = new ActiveMQTopic("VirtualTopic.prices");
        ActiveMQQueue desk = new ActiveMQQueue("Consumer.desk.VirtualTopic.prices");
        MessageConsumer kept = ann.createConsumer(desk);
        ann.createProducer(prices).send(ann.createTextMessage("up"));
        Stage.expectTexts(kept, "up");
        refusesToSend(bob, prices);
        refusesToConsume(bob, desk);
        refusesToConsume(ann, prices);
        refusesToConsume(ann, new ActiveMQQueue("Consumer.other.VirtualTopic.prices"));
        // Who reads from a pattern must be allowed to read from all that it may ever catch.
        MessageConsumer open = ann.createConsumer(new ActiveMQQueue("open.>"));
        bob.createProducer(new ActiveMQQueue("open.a.b")).send(bob.createTextMessage("by bob"));
        Stage.expectTexts(open, "by bob");
        refusesToConsume(bob, new ActiveMQQueue("open.>"));
        refusesToConsume(ann, new ActiveMQQueue(">"));
        refusesToConsume(ann, new ActiveMQQueue("*"));
        // Of several, each counts.
        refusesToSend(bob, new ActiveMQQueue("open.c,out"));
        refusesToConsume(ann, new ActiveMQQueue("out,in"));
        MessageConsumer out = ann.createConsumer(new ActiveMQQueue("out"));
        Stage.expectNothing(out);
        // What is temporary takes answers from anybody, and its maker alone has them.
        TemporaryQueue back = ann.createTemporaryQueue();
        MessageConsumer answers = ann.createConsumer(back);
        bob.createProducer(back).send(bob.createTextMessage("answer"));
        Stage.expectTexts(answers, "answer");
        refusesToConsume(bob, back);
    }

    private static void refusesToSend(Session session, Destination to) {
        Stage.fails(JMSException.class, () -> {
            session.createProducer(to).send(session.createTextMessage("not sent"));
            return null;
        });
    }

    private static void refusesToConsume(Session session, Destination from) {
        Stage.fails(JMSException.class, () -> session.createConsumer(from));
    }

    static void certificates_are_looked_at(Stage stage, Stage files) throws Exception {
        Path folder = Path.of(files.address());
        String secure = stage.address();
        // One that is trusted, with a password or a certificate of its own.
        exchange(connect(secure, folder, "ca", null, "a"));
        exchange(connect(secure, folder, "ca", "ann", null));
        // Without either nobody is let in, nor with what somebody else has signed.
        Stage.fails(JMSSecurityException.class, () -> connect(secure, folder, "ca", null, null));
        Stage.fails(JMSException.class, () -> connect(secure, folder, "ca", "stranger", null));
        // A broker that is not trusted is told nothing.
        Stage.fails(JMSException.class, () -> connect(secure, folder, "stranger", null, "a"));
    }

    private static void exchange(Connection connection) throws JMSException {
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        Queue own = new ActiveMQQueue("own");
        String large = "x".repeat(300_000);
        session.createProducer(own).send(session.createTextMessage(large));
        Stage.expectTexts(session.createConsumer(own), large);
        connection.close();
    }

    private static Connection connect(
        String url, Path folder, String trusted, String certificate, String password)
        throws Exception {
        ActiveMQSslConnectionFactory factory = new ActiveMQSslConnectionFactory(url);
        factory.setKeyAndTrustManagers(keys(folder, certificate), trust(folder, trusted), null);
        factory.setUserName("ann");
        factory.setPassword(password);
        Connection connection = factory.createConnection();
        try {
            connection.start();
        } catch (JMSException e) {
            connection.close();
            throw e;
        }
        return connection;
    }

    private static javax.net.ssl.TrustManager[] trust(Path folder, String name) throws Exception {
        KeyStore store = empty();
        store.setCertificateEntry(name, certificate(folder, name));
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        return trust.getTrustManagers();
    }

    private static KeyManager[] keys(Path folder, String name) throws Exception {
        if (name == null) {
            return null;
        }
        String pem = Files.readString(folder.resolve(name + ".key"));
        byte[] bytes = Base64.getMimeDecoder().decode(pem.replaceAll("-----[^-]*-----", ""));
        var key = KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(bytes));
        KeyStore store = empty();
        Certificate[] chain = {certificate(folder, name)};
        store.setKeyEntry(name, key, new char[0], chain);
        var keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(store, new char[0]);
        return keys.getKeyManagers();
    }

    private static KeyStore empty() throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, null);
        return store;
    }

    private static Certificate certificate(Path folder, String name) throws Exception {
        byte[] pem = Files.readAllBytes(folder.resolve(name + ".pem"));
        return CertificateFactory.getInstance("X.509")
            .generateCertificate(new ByteArrayInputStream(pem));
    }
}
