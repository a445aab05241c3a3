import java.util.List;
import javax.transaction.TransactionManager;
import javax.transaction.xa.XAResource;

/** A transaction manager, which knows some resources and has its logs in a folder. */
interface Manager {
    /** The one of this name. */
    static Manager of(String name, String logs, List<Resource> resources) throws Exception {
        return switch (name) {
            case "Bitronix" -> new Bitronix(logs, resources);
            case "Narayana" -> new Narayana(logs, resources);
            default -> throw new IllegalArgumentException(name);
        };
    }

    TransactionManager transactions();

    /** Has the current transaction take in what is done with a resource in this session of it. */
    void enlist(Resource resource, XAResource session) throws Exception;

    /** Has it end what was left in doubt, as far as the resources are there. */
    void recover() throws Exception;
}
