import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Arrays;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import org.apache.activemq.broker.BrokerService;
import org.apache.activemq.broker.SslContext;
import org.apache.activemq.broker.region.policy.ConstantPendingMessageLimitStrategy;
import org.apache.activemq.broker.region.policy.PolicyEntry;
import org.apache.activemq.broker.region.policy.PolicyMap;
import org.apache.activemq.network.NetworkConnector;
import org.apache.activemq.store.kahadb.KahaDBPersistenceAdapter;
import org.apache.activemq.store.kahadb.disk.journal.Journal.JournalDiskSyncStrategy;
import org.apache.activemq.util.IntrospectionSupport;

/**
 * ActiveMQ itself, to prove the stories with and to compare speed with: `Classic DATA PORT
 * [prioritized] [named=NAME] [trusts=FILE] [network=URL] [duplex=URL] [PROPERTY=VALUE]`. The
 * addresses lay a bridge to a broker each, for one direction or both; the properties behind one are
 * that bridge's. Whom the authority in the file has signed is trusted.
 *
 * Every confirmed message is synced, as with EscrowMQ. It says where it listens as EscrowMQ does,
 * and ends with its standard input.
 */
public final class Classic {
    public static void main(String[] args) throws Exception {
        KahaDBPersistenceAdapter store = new KahaDBPersistenceAdapter();
        store.setDirectory(new File(args[0], "kahadb"));
        store.setJournalDiskSyncStrategy(JournalDiskSyncStrategy.ALWAYS.name());
        BrokerService broker = new BrokerService();
        broker.setBrokerName(value(args, "named", "classic"));
        broker.setDataDirectory(args[0]);
        broker.setPersistenceAdapter(store);
        broker.setUseJmx(false);
        broker.setUseShutdownHook(false);
        boolean prioritized = Arrays.asList(args).contains("prioritized");
        // Off by default, and what a story of priorities or of schedules needs.
        broker.setSchedulerSupport(prioritized);
        PolicyEntry entry = new PolicyEntry();
        entry.setPrioritizedMessages(prioritized);
        entry.setExpireMessagesPeriod(1_000);
        // Without one it does not ask what a consumer wants to wait for it; this sets no limit.
        entry.setPendingMessageLimitStrategy(new ConstantPendingMessageLimitStrategy());
        PolicyMap policy = new PolicyMap();
        policy.setDefaultEntry(entry);
        broker.setDestinationPolicy(policy);
        var connector = broker.addConnector("tcp://127.0.0.1:" + args[1]);
        String trusts = value(args, "trusts", null);
        if (trusts != null) {
            broker.setSslContext(new SslContext(null, trust(Path.of(trusts)), null));
        }
        layBridges(broker, args);
        broker.start();
        broker.waitUntilStarted();
        System.out.println("listening on tcp://127.0.0.1:" + connector.getConnectUri().getPort());
        System.out.println("ready");
        try {
            while (System.in.read() >= 0) {
            }
        } catch (IOException e) {
            // As good as its end.
        }
        Runtime.getRuntime().halt(0);
    }

    private static void layBridges(BrokerService broker, String[] args) throws Exception {
        NetworkConnector lays = null;
        for (String arg : args) {
            String[] words = arg.split("=", 2);
            if (words[0].equals("network") || words[0].equals("duplex")) {
                lays = broker.addNetworkConnector(
                    "static:(" + words[1] + ")?initialReconnectDelay=100&maxReconnectDelay=100"
                        + "&useExponentialBackOff=false");
                lays.setName("NC" + broker.getNetworkConnectors().size());
                lays.setDuplex(words[0].equals("duplex"));
            } else if (lays != null) {
                if (!IntrospectionSupport.setProperty(lays, words[0], words[1])) {
                    throw new IllegalArgumentException(arg);
                }
            }
        }
    }

    private static String value(String[] args, String name, String otherwise) {
        return Arrays.stream(args).filter(arg -> arg.startsWith(name + "="))
            .map(arg -> arg.substring(name.length() + 1)).findFirst().orElse(otherwise);
    }

    private static TrustManager[] trust(Path pem) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, null);
        var in = new ByteArrayInputStream(Files.readAllBytes(pem));
        store.setCertificateEntry(
            "authority", CertificateFactory.getInstance("X.509").generateCertificate(in));
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        return trust.getTrustManagers();
    }
}
