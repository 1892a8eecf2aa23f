import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DefaultSaslConfig;
import com.rabbitmq.client.GetResponse;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** The scenarios of TLS, with the certificates that interop/certificates has made. */
final class Tls {
  private static final char[] PASSWORD = "interop".toCharArray();

  interface Scenario {
    void play(String name) throws Exception;
  }

  static final Map<String, Scenario> SCENARIOS = new LinkedHashMap<>();

  static {
    SCENARIOS.put("tls-plain", name -> thereAndBack(byTls(null), name, null));
    SCENARIOS.put("tls-mutual", name -> thereAndBack(byTls("client"), name, null));
    SCENARIOS.put("tls-external", name -> {
      ConnectionFactory factory = byTls("client");
      factory.setSaslConfig(DefaultSaslConfig.EXTERNAL);
      // The broker checks that whoever publishes is who it says.
      thereAndBack(factory, name, "guest");
    });
    SCENARIOS.put("tls-stranger", name -> {
      try (Connection connection = byTls("stranger").newConnection()) {
        throw new AssertionError("a certificate of another authority was taken: " + connection);
      } catch (IOException refused) {
        // As it should be.
      }
    });
  }

  private Tls() {}

  /** Trusts the authority of TLS_DIR and shows one of its certificates, if one is named. */
  private static ConnectionFactory byTls(String certificate) throws Exception {
    Path folder = Path.of(System.getenv("TLS_DIR"));
    KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
    trusted.load(null, null);
    try (InputStream file = Files.newInputStream(folder.resolve("ca.pem"))) {
      CertificateFactory certificates = CertificateFactory.getInstance("X.509");
      trusted.setCertificateEntry("ca", certificates.generateCertificate(file));
    }
    TrustManagerFactory trust =
        TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(trusted);
    KeyManagerFactory keys =
        KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    KeyStore own = KeyStore.getInstance("PKCS12");
    own.load(null, null);
    if (certificate != null) {
      try (InputStream file = Files.newInputStream(folder.resolve(certificate + ".p12"))) {
        own.load(file, PASSWORD);
      }
    }
    keys.init(own, PASSWORD);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
    ConnectionFactory factory = new ConnectionFactory();
    factory.setUri(System.getenv("AMQPS_URL"));
    factory.useSslProtocol(context);
    factory.enableHostnameVerification();
    return factory;
  }

  /** Confirmed messages of several sizes arrive whole. */
  private static void thereAndBack(ConnectionFactory factory, String queue, String user)
      throws Exception {
    try (Connection connection = factory.newConnection()) {
      Channel channel = connection.createChannel();
      channel.queueDeclare(queue, false, true, false, null);
      channel.confirmSelect();
      AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().userId(user).build();
      for (int size : new int[] {0, 1, 16_384, 1_000_000}) {
        byte[] body = new byte[size];
        for (int at = 0; at < size; at++) {
          body[at] = (byte) (at % 251);
        }
        channel.basicPublish("", queue, true, properties, body);
        channel.waitForConfirmsOrDie(10_000);
        GetResponse arrived = channel.basicGet(queue, true);
        if (arrived == null || !Arrays.equals(arrived.getBody(), body)) {
          throw new AssertionError(size + " bytes arrived otherwise");
        }
      }
    }
  }
}
