import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.io.PrintWriter;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * Tells stories to whoever connects, so that one virtual machine serves all tests.
 *
 * It prints its port, and ends with its standard input. A connection asks with one line, `STORY
 * URL`, where STORY is `Class.method`; some have a second address, or a folder. It may be asked in
 * turn to `kill` or `start` the broker, or, as its operator, to `commit XID` or `rollback XID` of a
 * branch, and answers with a line when that is done. The last answer
 * is `true`, or `false` and what went wrong, up to the end of the connection. Asked for `list`, it
 * names every story.
 */
public final class Teller {
    /** Each class of stories: its package-private methods with a {@link Stage} are stories. */
    static final Class<?>[] STORIES = {
        Connecting.class, Messages.class, Acknowledging.class, Transactions.class, Returning.class,
        Flow.class, Choosing.class, Topics.class, Subscriptions.class, Temporary.class,
        Branches.class, Failing.class, Options.class, Breaking.class, Verdicts.class,
        Using.class,
    };

    public static void main(String[] args) throws IOException {
        Thread end = new Thread(Teller::endWithInput);
        end.setDaemon(true);
        end.start();
        ServerSocket door = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        System.out.println(door.getLocalPort());
        while (true) {
            Socket caller = door.accept();
            new Thread(() -> answer(caller)).start();
        }
    }

    private static void endWithInput() {
        try {
            while (System.in.read() >= 0) {
            }
        } catch (IOException e) {
            // As good as its end.
        }
        Runtime.getRuntime().halt(0);
    }

    private static void answer(Socket caller) {
        try (caller) {
            var in = new InputStreamReader(caller.getInputStream(), StandardCharsets.UTF_8);
            var out = new OutputStreamWriter(caller.getOutputStream(), StandardCharsets.UTF_8);
            BufferedReader asks = new BufferedReader(in);
            PrintWriter answers = new PrintWriter(out, true);
            String[] words = asks.readLine().split(" ");
            if (words[0].equals("list")) {
                list(answers);
            } else {
                tell(words, asks, answers);
            }
            answers.flush();
        } catch (IOException e) {
            e.printStackTrace();
        }
    }

    private static void list(PrintWriter answers) {
        for (Class<?> stories : STORIES) {
            Arrays.stream(stories.getDeclaredMethods()).filter(Teller::isStory)
                .forEach(story -> answers.println(stories.getName() + "." + story.getName()));
        }
    }

    private static boolean isStory(Method method) {
        return !Modifier.isPrivate(method.getModifiers())
            && Arrays.equals(method.getParameterTypes(), new Class<?>[] {Stage.class});
    }

    private static void tell(String[] words, BufferedReader asks, PrintWriter answers) {
        String name = words[0];
        Stage.Asker asker = ask -> {
            answers.println(ask);
            if (asks.readLine() == null) {
                throw new IOException("the asker has gone");
            }
        };
        Stage stage = new Stage(name, words[1], asker);
        Stage second = new Stage(name, words[words.length - 1], asker);
        Object[] stages = words.length > 2 ? new Object[] {stage, second} : new Object[] {stage};
        try (stage; second) {
            int dot = name.indexOf('.');
            Class<?> stories = Class.forName(name.substring(0, dot));
            Class<?>[] of = new Class<?>[stages.length];
            Arrays.fill(of, Stage.class);
            stories.getDeclaredMethod(name.substring(dot + 1), of).invoke(null, stages);
            answers.println("true");
        } catch (InvocationTargetException e) {
            answers.print("false ");
            e.getCause().printStackTrace(answers);
        } catch (Throwable e) {
            answers.print("false ");
            e.printStackTrace(answers);
        }
    }
}
