import java.util.ArrayList;
import java.util.List;
import javax.transaction.xa.XAResource;

/** One that a transaction manager looks for branches in, over a connection of its own each time. */
final class Resource {
    /** How it is reached, while it is there. */
    interface Opener {
        Opened open() throws Exception;
    }

    /** What is asked for branches, and what is closed when that is over. */
    record Opened(XAResource branches, AutoCloseable connection) {
    }

    final String name;
    private final Opener opener;
    private final List<AutoCloseable> opened = new ArrayList<>();

    Resource(String name, Opener opener) {
        this.name = name;
        this.opener = opener;
    }

    XAResource open() throws Exception {
        Opened now = opener.open();
        opened.add(now.connection());
        return now.branches();
    }

    /** Closes all that was opened. */
    void close() {
        opened.forEach(Resource::closeQuietly);
        opened.clear();
    }

    static void closeQuietly(AutoCloseable closeable) {
        try {
            closeable.close();
        } catch (Exception e) {
            // Its other end may be gone.
        }
    }
}
