import com.arjuna.ats.arjuna.common.CoordinatorEnvironmentBean;
import com.arjuna.ats.arjuna.common.CoreEnvironmentBean;
import com.arjuna.ats.arjuna.common.ObjectStoreEnvironmentBean;
import com.arjuna.ats.arjuna.common.RecoveryEnvironmentBean;
import com.arjuna.ats.arjuna.recovery.RecoveryManager;
import com.arjuna.ats.internal.jta.recovery.arjunacore.XARecoveryModule;
import com.arjuna.ats.jta.common.JTAEnvironmentBean;
import com.arjuna.ats.jta.recovery.XAResourceRecoveryHelper;
import com.arjuna.common.internal.util.propertyservice.BeanPopulator;
import java.util.List;
import javax.transaction.TransactionManager;
import javax.transaction.xa.XAResource;

/** The manager of the application servers of JBoss. */
final class Narayana implements Manager {
    /** How often it looks before what nobody knows counts as abandoned. */
    private static final int SCANS = 2;

    private final List<Resource> resources;
    private final TransactionManager manager;
    private final RecoveryManager recovery;

    Narayana(String logs, List<Resource> resources) throws Exception {
        this.resources = resources;
        configure(logs);
        recovery = RecoveryManager.manager(RecoveryManager.DIRECT_MANAGEMENT);
        recovery.initialize();
        XARecoveryModule module = XARecoveryModule.getRegisteredXARecoveryModule();
        resources.forEach(resource -> module.addXAResourceRecoveryHelper(new Helper(resource)));
        manager = com.arjuna.ats.jta.TransactionManager.transactionManager();
    }

    private static void configure(String logs) throws Exception {
        for (String name : new String[] {null, "stateStore", "communicationStore"}) {
            var type = ObjectStoreEnvironmentBean.class;
            ObjectStoreEnvironmentBean store = name == null
                ? BeanPopulator.getDefaultInstance(type)
                : BeanPopulator.getNamedInstance(type, name);
            store.setObjectStoreDir(logs);
        }
        BeanPopulator.getDefaultInstance(CoreEnvironmentBean.class).setNodeIdentifier("1");
        // Else it listens for other managers that share its logs.
        BeanPopulator.getDefaultInstance(CoordinatorEnvironmentBean.class)
            .setTransactionStatusManagerEnable(false);
        var recovery = BeanPopulator.getDefaultInstance(RecoveryEnvironmentBean.class);
        recovery.setRecoveryModuleClassNames(List.of(
            "com.arjuna.ats.internal.arjuna.recovery.AtomicActionRecoveryModule",
            "com.arjuna.ats.internal.jta.recovery.arjunacore.XARecoveryModule"));
        recovery.setExpiryScannerClassNames(List.of());
        recovery.setRecoveryBackoffPeriod(1);
        var jta = BeanPopulator.getDefaultInstance(JTAEnvironmentBean.class);
        String filters = "com.arjuna.ats.internal.jta.recovery.arjunacore.";
        jta.setXaResourceOrphanFilterClassNames(List.of(
            filters + "JTATransactionLogXAResourceOrphanFilter",
            filters + "JTANodeNameXAResourceOrphanFilter"));
        jta.setXaRecoveryNodes(List.of("1"));
        // Nobody else works for this node, and it never looks while it moves.
        jta.setOrphanSafetyInterval(100);
    }

    /** Where it finds the branches of one resource. */
    private record Helper(Resource resource) implements XAResourceRecoveryHelper {
        @Override
        public boolean initialise(String unused) {
            return true;
        }

        @Override
        public XAResource[] getXAResources() {
            try {
                return new XAResource[] {resource.open()};
            } catch (Exception e) {
                return new XAResource[0];
            }
        }
    }

    @Override
    public TransactionManager transactions() {
        return manager;
    }

    @Override
    public void enlist(Resource resource, XAResource session) throws Exception {
        manager.getTransaction().enlistResource(session);
    }

    @Override
    public void recover() {
        for (int i = 0; i < SCANS; i++) {
            recovery.scan();
            resources.forEach(Resource::close);
        }
    }
}
