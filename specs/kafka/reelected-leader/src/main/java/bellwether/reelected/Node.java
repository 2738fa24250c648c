package bellwether.reelected;

// One Kafka process of the cluster: formatted, started, stopped by signals, watched through its own log.

import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.function.BooleanSupplier;

/** A controller or a broker in a JVM of its own, started from the class path of this program. */
final class Node implements AutoCloseable {
    private final String name;
    private final Path home;
    private final Path settings;
    private final Path out;
    private final String classPath;
    private Process process = null;

    Node(Path root, String name, String clusterId, Properties properties, String classPath) throws IOException {
        this.name = name;
        this.classPath = classPath;
        home = Files.createDirectories(root.resolve(name));
        settings = home.resolve("server.properties");
        out = home.resolve("out.log");
        properties.put("log.dirs", home.resolve("data").toString());
        try (var writer = Files.newBufferedWriter(settings)) {
            properties.store(writer, null);
        }
        try (PrintStream log = new PrintStream(Files.newOutputStream(home.resolve("format.log")))) {
            int status = kafka.tools.StorageTool.execute(
                new String[] {"format", "-t", clusterId, "-c", settings.toString()}, log);
            if (status != 0) {
                throw new IOException("cannot format " + name + ": status " + status);
            }
        }
    }

    void start() throws IOException {
        List<String> command = new ArrayList<>(List.of(
            ProcessHandle.current().info().command().orElse("java"), "-Xms64m", "-Xmx256m", "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1", "-Dkafka.log=INFO", "-cp", classPath, "kafka.Kafka", settings.toString()));
        process = new ProcessBuilder(command).redirectErrorStream(true)
            .redirectOutput(ProcessBuilder.Redirect.appendTo(out.toFile())).start();
    }

    /** STOP, CONT, TERM or KILL, sent to this process only. */
    void signal(String signal) throws Exception {
        int status = new ProcessBuilder("kill", "-" + signal, Long.toString(process.pid())).inheritIO().start().waitFor();
        if (status != 0) {
            throw new IOException("cannot send " + signal + " to " + name);
        }
        if (signal.equals("KILL")) {
            process.waitFor();
        }
    }

    /** The lines of its log that contain all of these words, as they are. */
    List<String> said(String... words) throws IOException {
        try (var lines = Files.lines(out)) {
            return lines.filter(line -> {
                for (String word : words) {
                    if (!line.contains(word)) {
                        return false;
                    }
                }
                return true;
            }).toList();
        }
    }

    /** Waits until its log has a line with all of these words, and returns the last such line. */
    String waitFor(String... words) throws Exception {
        until("node " + name + " says " + String.join(" … ", words), () -> {
            try {
                return !said(words).isEmpty();
            } catch (IOException e) {
                return false;
            }
        });
        List<String> lines = said(words);
        return lines.get(lines.size() - 1);
    }

    /** Bytes in the only segment of the partition. */
    long logBytes() throws IOException {
        Path segment = home.resolve("data").resolve("t-0").resolve("00000000000000000000.log");
        return Files.exists(segment) ? Files.size(segment) : -1;
    }

    static void until(String what, BooleanSupplier done) throws Exception {
        long end = System.nanoTime() + 60_000_000_000L;
        while (!done.getAsBoolean()) {
            if (System.nanoTime() > end) {
                throw new IllegalStateException("waited a minute, but not so: " + what);
            }
            Thread.sleep(20);
        }
    }

    @Override
    public void close() {
        if (process != null) {
            process.destroyForcibly();
        }
    }
}
