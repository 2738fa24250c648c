// The arguments, the records, and how the program tells what it saw (see README.md two folders above the sources).
package bellwether.clients;

import java.io.BufferedInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStreamWriter;
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.StringJoiner;
import java.util.function.Consumer;
import java.util.zip.CRC32;

final class Contract {
    private final Map<String, String> arguments = new HashMap<>();
    private final PrintWriter out =
            new PrintWriter(new OutputStreamWriter(System.out, StandardCharsets.UTF_8), false);

    Contract(String[] args) {
        for (int i = 0; i + 1 < args.length; i += 2) {
            arguments.put(args[i], args[i + 1]);
        }
    }

    String text(String name) {
        String value = arguments.get("--" + name);
        if (value == null) {
            throw new IllegalArgumentException("--" + name + " is missing");
        }
        return value;
    }

    int number(String name) {
        return Integer.parseInt(text(name));
    }

    record Pair(String name, String value) {}

    record Numbered(int number, int partition, byte[] key, byte[] value, List<Pair> headers) {}

    /**
     * Each record. At the gate it waits for a line on standard input, and spreads what comes after it over the time that
     * was asked for.
     */
    void records(Consumer<Numbered> write) throws IOException, InterruptedException {
        int records = number("records");
        int partitions = number("partitions");
        int size = number("size");
        int gate = number("gate");
        double stepNanos = Double.parseDouble(text("seconds")) * 1e9 / Math.max(1, records - gate);
        long opened = System.nanoTime();
        try (InputStream values = new BufferedInputStream(Files.newInputStream(Path.of(text("values"))), 1 << 20)) {
            for (int number = 0; number < records; number++) {
                byte[] value = values.readNBytes(size);
                if (value.length != size) {
                    throw new IOException("too few values");
                }
                if (gate > 0 && number == gate) {
                    waitAtGate();
                    opened = System.nanoTime();
                }
                if (gate > 0 && number >= gate) {
                    long aheadMs = (opened + (long) (stepNanos * (number - gate)) - System.nanoTime()) / 1_000_000;
                    if (aheadMs > 5) {
                        Thread.sleep(aheadMs);
                    }
                }
                List<Pair> headers = List.of(new Pair("number", Integer.toString(number)),
                        new Pair("twice", "first"), new Pair("twice", "second"));
                byte[] key = ("key-" + number).getBytes(StandardCharsets.UTF_8);
                write.accept(new Numbered(number, number % partitions, key, value, headers));
            }
        }
    }

    private void waitAtGate() throws IOException, InterruptedException {
        while (System.in.available() == 0) {
            flush();
            Thread.sleep(10);
        }
    }

    synchronized void acknowledged(int number, int partition, long offset) {
        out.println("[\"acknowledged\"," + number + "," + partition + "," + offset + "]");
        // The harness wants to know how far we are.
        if (number % 50 == 0) {
            out.flush();
        }
    }

    synchronized void failed(int number, Exception error) {
        out.println("[\"failed\"," + number + "," + quoted(error.toString()) + "]");
        out.flush();
    }

    synchronized void inRange(int partition, long beginning, long end) {
        out.println("[\"range\"," + partition + "," + beginning + "," + end + "]");
        out.flush();
    }

    synchronized void read(int partition, long offset, byte[] key, byte[] value, List<Pair> headers) {
        CRC32 crc = new CRC32();
        crc.update(value);
        StringBuilder line = new StringBuilder("[\"read\",").append(partition).append(',').append(offset).append(',');
        line.append(key == null ? "null" : quoted(new String(key, StandardCharsets.UTF_8))).append(',');
        line.append(crc.getValue()).append(',').append(value.length).append(",[");
        for (int i = 0; i < headers.size(); i++) {
            line.append(i == 0 ? "[" : ",[").append(quoted(headers.get(i).name())).append(',');
            line.append(quoted(headers.get(i).value())).append(']');
        }
        out.println(line.append("]]"));
    }

    /** A member's work with a record: it is done when the line is out, and takes a while. */
    void process(int partition, long offset, byte[] key, byte[] value, List<Pair> headers) throws InterruptedException {
        read(partition, offset, key, value, headers);
        flush();
        Thread.sleep(2);
    }

    /** A member's partitions. */
    synchronized void assigned(Iterable<Integer> partitions) {
        StringJoiner list = new StringJoiner(",", "[\"assigned\",[", "]]");
        partitions.forEach(partition -> list.add(partition.toString()));
        out.println(list);
        out.flush();
    }

    /** A commit was acknowledged. */
    synchronized void committed(int partition, long offset) {
        out.println("[\"committed\"," + partition + "," + offset + "]");
        out.flush();
    }

    /** The committed offset and the end of a partition, as the client itself finds them. */
    synchronized void lag(int partition, long committed, long end) {
        out.println("[\"lag\"," + partition + "," + committed + "," + end + "]");
    }

    synchronized void versions(String versions) {
        out.println("[\"versions\"," + quoted(versions) + "]");
    }

    synchronized void done() {
        out.println("[\"done\"]");
        out.flush();
    }

    synchronized void flush() {
        out.flush();
    }

    private static String quoted(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            switch (c) {
                case '"', '\\' -> quoted.append('\\').append(c);
                default -> {
                    if (c < ' ') {
                        quoted.append(String.format("\\u%04x", (int) c));
                    } else {
                        quoted.append(c);
                    }
                }
            }
        }
        return quoted.append('"').toString();
    }
}
