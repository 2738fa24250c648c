package bellwether.reelected;

// A clock that stands still until it is moved, so that only the run decides which follower lags.

import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.utils.Time;

/** Kafka's clock, moved by {@link #sleep}. */
final class ManualTime implements Time {
    private final AtomicLong now = new AtomicLong(1_000_000);

    @Override
    public long milliseconds() {
        return now.get();
    }

    @Override
    public long nanoseconds() {
        return TimeUnit.MILLISECONDS.toNanos(now.get());
    }

    @Override
    public void sleep(long ms) {
        now.addAndGet(ms);
    }
}
