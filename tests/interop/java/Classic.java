import java.io.File;
import java.io.IOException;
import java.util.Arrays;
import org.apache.activemq.broker.BrokerService;
import org.apache.activemq.broker.region.policy.ConstantPendingMessageLimitStrategy;
import org.apache.activemq.broker.region.policy.PolicyEntry;
import org.apache.activemq.broker.region.policy.PolicyMap;
import org.apache.activemq.network.NetworkConnector;
import org.apache.activemq.store.kahadb.KahaDBPersistenceAdapter;
import org.apache.activemq.store.kahadb.disk.journal.Journal.JournalDiskSyncStrategy;

/**
 * ActiveMQ itself, to prove the stories with and to compare speed with: `Classic DATA PORT
 * [prioritized] [network=URL] [duplex=URL]`, where the last two lay a bridge to a broker, for one
 * direction or both.
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
        broker.setBrokerName("classic");
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
        for (String arg : args) {
            String[] bridge = arg.split("=", 2);
            if (bridge[0].equals("network") || bridge[0].equals("duplex")) {
                NetworkConnector lays = broker.addNetworkConnector(
                    "static:(" + bridge[1] + ")?initialReconnectDelay=100&maxReconnectDelay=100"
                        + "&useExponentialBackOff=false");
                lays.setDuplex(bridge[0].equals("duplex"));
            }
        }
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
}
