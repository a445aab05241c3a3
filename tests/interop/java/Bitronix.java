import bitronix.tm.Configuration;
import bitronix.tm.TransactionManagerServices;
import bitronix.tm.internal.XAResourceHolderState;
import bitronix.tm.recovery.RecoveryException;
import bitronix.tm.resource.ResourceRegistrar;
import bitronix.tm.resource.common.ResourceBean;
import bitronix.tm.resource.common.XAResourceHolder;
import bitronix.tm.resource.common.XAResourceProducer;
import bitronix.tm.resource.common.XAStatefulHolder;
import bitronix.tm.resource.ehcache.EhCacheXAResourceHolder;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import javax.naming.Reference;
import javax.transaction.TransactionManager;
import javax.transaction.xa.XAException;
import javax.transaction.xa.XAResource;

/**
 * The manager that runs beside an application, without a server.
 *
 * It works with the resources themselves rather than with its pools: these recover whenever one of
 * their connections was lost, and there it notes a branch as committed even where the resource did
 * not answer.
 */
final class Bitronix implements Manager {
    private final Map<Resource, Producer> producers = new LinkedHashMap<>();
    private final TransactionManager manager;

    Bitronix(String logs, List<Resource> resources) throws Exception {
        Configuration configuration = TransactionManagerServices.getConfiguration();
        // Part of every name that it gives, by which it knows its branches after a crash.
        configuration.setServerId("money").setCurrentNodeOnlyRecovery(true);
        configuration.setLogPart1Filename(logs + "/part1.btm");
        configuration.setLogPart2Filename(logs + "/part2.btm");
        configuration.setDisableJmx(true);
        // It recovers when it is told to, never beside that.
        configuration.setBackgroundRecoveryIntervalSeconds(24 * 60 * 60);
        for (Resource resource : resources) {
            Producer producer = new Producer(resource);
            producers.put(resource, producer);
            ResourceRegistrar.register(producer);
        }
        manager = TransactionManagerServices.getTransactionManager();
    }

    @Override
    public TransactionManager transactions() {
        return manager;
    }

    @Override
    public void enlist(Resource resource, XAResource session) throws Exception {
        producers.get(resource).work(session);
        manager.getTransaction().enlistResource(session);
    }

    @Override
    public void recover() throws Exception {
        // It ends what is older than all that is under way, and nothing where nothing is.
        manager.begin();
        try {
            TransactionManagerServices.getRecoverer().run();
        } finally {
            manager.rollback();
        }
    }

    /** A resource as it knows it: by its name, with the session that works now. */
    private static final class Producer extends ResourceBean implements XAResourceProducer {
        private final transient Resource resource;
        private transient volatile XAResourceHolder working;

        Producer(Resource resource) {
            this.resource = resource;
            setUniqueName(resource.name);
        }

        void work(XAResource session) {
            if (findXAResourceHolder(session) == null) {
                working = new EhCacheXAResourceHolder(session, this);
            }
        }

        @Override
        public XAResourceHolder findXAResourceHolder(XAResource session) {
            XAResourceHolder now = working;
            return now != null && now.getXAResource() == session ? now : null;
        }

        @Override
        public XAResourceHolderState startRecovery() throws RecoveryException {
            try {
                XAResource branches = insistent(resource.open());
                return new XAResourceHolderState(new EhCacheXAResourceHolder(branches, this), this);
            } catch (Exception e) {
                throw new RecoveryException(resource.name + " is not there", e);
            }
        }

        @Override
        public void endRecovery() {
            resource.close();
        }

        @Override
        public void setFailed(boolean failed) {
        }

        @Override
        public void init() {
        }

        @Override
        public void close() {
        }

        @Override
        public XAStatefulHolder createPooledConnection(Object factory, ResourceBean bean) {
            throw new UnsupportedOperationException("there is no pool");
        }

        @Override
        public Reference getReference() {
            throw new UnsupportedOperationException("nobody looks it up");
        }
    }

    /**
     * What has its recovery end when a resource does not say what became of a branch. Told so by an
     * `XAException`, it goes on as if the branch had ended as it wanted, and never looks again.
     */
    private static XAResource insistent(XAResource branches) {
        return (XAResource) Proxy.newProxyInstance(Bitronix.class.getClassLoader(),
            new Class<?>[] {XAResource.class}, (proxy, method, arguments) -> {
                try {
                    return method.invoke(branches, arguments);
                } catch (InvocationTargetException e) {
                    if (e.getCause() instanceof XAException refused && isOpen(refused)) {
                        throw new IllegalStateException("nobody knows the outcome", refused);
                    }
                    throw e.getCause();
                }
            });
    }

    /** The branch may be there still. */
    private static boolean isOpen(XAException refused) {
        return switch (refused.errorCode) {
            case XAException.XAER_NOTA, XAException.XA_HEURCOM, XAException.XA_HEURRB,
                XAException.XA_HEURMIX, XAException.XA_HEURHAZ -> false;
            default -> true;
        };
    }
}
