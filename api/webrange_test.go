package api

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protojson"
)

// TestGatewayLargeRange: an answer in JSON of three times the memory for answers is read by a client that rests in between, and by one
// that goes away. Neither keeps room while it rests, and all is given back.
func TestGatewayLargeRange(t *testing.T) {
	inWebBubble(t, func(cfg *Config) { cfg.AnswerBytes = fewAnswerBytes }, func(t *testing.T, w *browser) {
		for i := range bigKeys {
			w.put(fmt.Sprintf("big/%02d", i), string(bytes.Repeat([]byte{byte(i)}, bigValue-i)))
		}
		encode := base64.StdEncoding.EncodeToString
		ask := func(end, extra string) *http.Response {
			q := fmt.Sprintf(`{"key":%q,"range_end":%q%s}`, encode([]byte("big/")), encode([]byte(end)), extra)
			return w.send("POST", "/v3/kv/range", strings.NewReader(q), nil)
		}
		r := ask("big0", "")
		if kind := r.Header.Get("Content-Type") + " " + r.Header.Get("Grpc-Metadata-Content-Type"); kind != "application/json application/grpc" {
			t.Errorf("the answer is of type %s", kind)
		}
		if r := ask("big0", `,"revision":1000`); r.StatusCode != http.StatusBadRequest || r.Header.Get("Grpc-Metadata-Content-Type") != "" {
			t.Errorf("an error is answered with %s and gRPC's head: %v", r.Status, r.Header)
		}
		gone := ask("big0", "")
		time.Sleep(2 * parkAfter * parkCheck)
		wantRoom(t, w.service)
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		var answer pb.RangeResponse
		if err := protojson.Unmarshal(text, &answer); err != nil {
			t.Fatal(err)
		}
		checkBig(t, &answer)
		gone.Body.Close()
		time.Sleep(time.Second)
		wantRoom(t, w.service)

		// What has to be whole is lost when it rests for too long; the client must notice.
		const sorted = `,"sort_order":"DESCEND","sort_target":"VALUE"`
		r = ask("big/04", sorted)
		if text, err := io.ReadAll(r.Body); err != nil || len(text) < 4*bigValue {
			t.Errorf("sorted: %d bytes, %v", len(text), err)
		}
		synctest.Wait()
		wantRoom(t, w.service)
		r = ask("big/04", sorted)
		time.Sleep(2 * fixedAfter * parkCheck)
		if text, err := io.ReadAll(r.Body); err == nil {
			t.Errorf("a sorted answer that has rested comes to its end with %d bytes", len(text))
		}
	})
}
