import java.util.List;
import java.util.Map;
import pub.dtm.client.DtmClient;
import pub.dtm.client.saga.Saga;
import pub.dtm.client.tcc.Tcc;

/** The scenes by the Java SDK: prints the gid, and what the client heard. */
public class Scenes {
    static final Map<String, Integer> BODY = Map.of("amount", 30);

    public static void main(String[] args) throws Exception {
        String address = args[0], bank = "http://" + address, scene = args[1];
        DtmClient client = new DtmClient(address);
        String second = bank + (scene.endsWith("refused") ? "/refuse" : "/in");
        // The SDK names the transaction itself where it is not told a name; to print it in
        // each case, it is told one that the server made.
        String gid = newGid(bank);
        String heard = "success";
        try {
            if (scene.startsWith("saga")) {
                Saga saga = client.newSaga(gid).add(bank + "/out", bank + "/out", BODY).add(second, second, BODY);
                if (scene.endsWith("concurrent")) {
                    saga.add(bank + "/more", bank + "/more", BODY).enableConcurrent().addBranchOrder(2, List.of(0, 1));
                }
                saga.enableWaitResult().submit();
            } else {
                client.tccGlobalTransaction(gid, (Tcc tcc) -> {
                    try (okhttp3.Response r = tcc.callBranch(BODY, bank + "/out", bank + "/out", bank + "/out")) {
                        must(r);
                    }
                    try (okhttp3.Response r = tcc.callBranch(BODY, second, second, second)) {
                        must(r);
                    }
                });
            }
        } catch (pub.dtm.client.exception.FailureException e) {
            heard = "failure";
        }
        System.out.println(gid + " " + heard);
        System.exit(0); // the SDK's pool of connections has threads that stay
    }

    static void must(okhttp3.Response r) throws Exception {
        if (r.code() != 200) {
            throw new Exception("the branch answered " + r.code());
        }
    }

    static String newGid(String base) throws Exception {
        var in = new java.net.URL(base + "/api/dtmsvr/newGid").openStream();
        String text = new String(in.readAllBytes());
        return text.replaceAll(".*\"gid\":\"([^\"]*)\".*", "$1").trim();
    }
}
