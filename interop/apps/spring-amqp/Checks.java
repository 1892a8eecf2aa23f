import java.io.File;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;

/**
 * Playing scenarios, waiting, and the broker. Each scenario is reported as one line:
 * {@code ok NAME} or {@code FAIL NAME: why}.
 */
final class Checks {
  static final long WAIT_MS = 20_000;

  /** What a scenario does; anything that it throws is its failure. */
  interface Scenario {
    void play() throws Exception;
  }

  private final Map<String, Scenario> scenarios = new LinkedHashMap<>();

  void add(String name, Scenario scenario) {
    scenarios.put(name, scenario);
  }

  /** Plays all, or those named; whether all passed. */
  boolean play(String[] names) {
    List<String> chosen = names.length > 0 ? Arrays.asList(names) : List.copyOf(scenarios.keySet());
    boolean passed = true;
    for (String name : chosen) {
      try {
        scenarios.get(name).play();
        System.out.println("ok " + name);
      } catch (Throwable problem) {
        passed = false;
        System.out.println("FAIL " + name + ": " + String.valueOf(problem).replaceAll("\\s+", " "));
        problem.printStackTrace();
      }
    }
    return passed;
  }

  static void equal(String what, Object actual, Object expected) {
    require(Objects.equals(actual, expected), what + ": " + actual + " instead of " + expected);
  }

  static void require(boolean condition, String what) {
    if (!condition) {
      throw new AssertionError(what);
    }
  }

  /** The exception of this kind that the action must end in, wherever it stands in the causes. */
  static <T extends Throwable> T refused(Class<T> kind, Callable<?> action) {
    try {
      action.call();
    } catch (Exception problem) {
      for (Throwable cause = problem; cause != null; cause = cause.getCause()) {
        if (kind.isInstance(cause)) {
          return kind.cast(cause);
        }
      }
      throw new AssertionError("not " + kind.getSimpleName() + " but " + problem, problem);
    }
    throw new AssertionError("not refused");
  }

  /** Asks until it is so. */
  static void eventually(String what, Callable<Boolean> condition) throws Exception {
    long deadline = System.currentTimeMillis() + WAIT_MS;
    while (!condition.call()) {
      require(System.currentTimeMillis() < deadline, "not within " + WAIT_MS + " ms: " + what);
      Thread.sleep(20);
    }
  }

  static <T> T take(BlockingQueue<T> queue, String what) throws InterruptedException {
    T taken = queue.poll(WAIT_MS, TimeUnit.MILLISECONDS);
    require(taken != null, "not within " + WAIT_MS + " ms: " + what);
    return taken;
  }

  static void restartBroker(String how) throws Exception {
    Process process =
        new ProcessBuilder(System.getenv("BROKER"), "restart", System.getenv("BROKER_DIR"), how)
            .redirectErrorStream(true)
            .redirectOutput(new File(System.getenv("BROKER_DIR"), "restart.log"))
            .start();
    equal("exit code of the restart", process.waitFor(), 0);
  }
}
