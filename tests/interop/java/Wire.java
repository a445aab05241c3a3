import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.URI;
import java.util.ArrayList;
import java.util.List;

/**
 * A way to a broker that loses what the broker says, and breaks at the client's end alone, when a
 * story wants it so: the broker then still takes the client for connected.
 */
final class Wire implements AutoCloseable {
    private final URI broker;
    private final ServerSocket door;
    private final List<Way> ways = new ArrayList<>();

    /** One connection, and its other half. */
    private static final class Way {
        final Socket client;
        final Socket broker;
        volatile boolean deaf;
        volatile boolean cut;

        Way(Socket client, Socket broker) {
            this.client = client;
            this.broker = broker;
        }

        void toBroker() {
            pump(client, broker, false);
            // One that was cut goes on for the broker as if nothing were.
            if (!cut) {
                closeQuietly(broker);
            }
        }

        void toClient() {
            pump(broker, client, true);
            closeQuietly(client);
        }

        private void pump(Socket from, Socket to, boolean answers) {
            byte[] bytes = new byte[1 << 16];
            try {
                InputStream in = from.getInputStream();
                OutputStream out = to.getOutputStream();
                // What was read while it was cut was never said.
                for (int count; (count = in.read(bytes)) >= 0 && !cut;) {
                    if (!(answers && deaf)) {
                        out.write(bytes, 0, count);
                    }
                }
            } catch (IOException e) {
                // As good as its end.
            }
        }
    }

    Wire(String url) throws IOException {
        this.broker = URI.create(url);
        this.door = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        start(this::serve);
    }

    /** The broker's address for those who come this way. */
    String address() {
        return "tcp://127.0.0.1:" + door.getLocalPort();
    }

    private void serve() {
        try {
            while (true) {
                Socket client = door.accept();
                Way way;
                try {
                    way = new Way(client, new Socket(broker.getHost(), broker.getPort()));
                } catch (IOException e) {
                    closeQuietly(client);
                    continue;
                }
                synchronized (ways) {
                    ways.add(way);
                }
                start(way::toBroker);
                start(way::toClient);
            }
        } catch (IOException e) {
            // The story is over.
        }
    }

    /** From now on those who are connected hear nothing of what the broker says. */
    void loseAnswers() {
        synchronized (ways) {
            ways.forEach(way -> way.deaf = true);
        }
    }

    /** Breaks every connection for its client; the broker hears nothing of that. */
    void cut() {
        synchronized (ways) {
            for (Way way : ways) {
                way.deaf = true;
                way.cut = true;
                closeQuietly(way.client);
            }
        }
    }

    @Override
    public void close() {
        closeQuietly(door);
        synchronized (ways) {
            for (Way way : ways) {
                closeQuietly(way.client);
                closeQuietly(way.broker);
            }
        }
    }

    private static void start(Runnable what) {
        Thread thread = new Thread(what);
        thread.setDaemon(true);
        thread.start();
    }

    private static void closeQuietly(AutoCloseable what) {
        try {
            what.close();
        } catch (Exception e) {
            // Its other end may be gone.
        }
    }
}
