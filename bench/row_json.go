package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
)

// jsonLoad is a kvLoad through the JSON gateway, as tools for load over HTTP make it.
type jsonLoad struct {
	op      string // "put" or "get"
	callers int
}

func (l jsonLoad) question() string {
	return fmt.Sprintf("what does a %s of %d B in JSON over HTTP cost, %d at a time?", l.op, valueBytes, l.callers)
}

func (l jsonLoad) run(ctx context.Context, t *task) error {
	server, err := t.startServer(ctx)
	if err != nil {
		return err
	}
	defer server.Kill()
	if l.op == "get" {
		t.status("writing %d keys", keysGet)
		if err := fill(ctx, server.Client, keysGet); err != nil {
			return err
		}
	}
	web := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: l.callers}}
	defer web.CloseIdleConnections()
	callers := make([]caller, l.callers)
	for i := range callers {
		r := rand.New(rand.NewPCG(uint64(i), uint64(t.record.Round)))
		callers[i] = l.caller(web, "http://"+server.Client, r)
	}
	t.record.Params = map[string]any{"callers": l.callers, "value_bytes": valueBytes, "measured_s": measureFor.Seconds()}
	return t.measureCalls(ctx, server.Pid(), callers)
}

func (l jsonLoad) caller(web *http.Client, base string, r *rand.Rand) caller {
	encode := base64.StdEncoding.EncodeToString
	if l.op == "put" {
		return func(ctx context.Context) error {
			body := fmt.Appendf(nil, `{"key":%q,"value":%q}`, encode(key(r.IntN(keysPut))), encode(value(r.IntN(1<<20), valueBytes)))
			_, err := postJSON(ctx, web, base+"/v3/kv/put", body)
			return err
		}
	}
	return func(ctx context.Context) error {
		answer, err := postJSON(ctx, web, base+"/v3/kv/range", fmt.Appendf(nil, `{"key":%q}`, encode(key(r.IntN(keysGet)))))
		if err != nil {
			return err
		}
		var found struct{ Count string }
		if err := json.Unmarshal(answer, &found); err != nil || found.Count != "1" {
			return fmt.Errorf("get in JSON: %s (%v)", answer, err)
		}
		return nil
	}
}

func postJSON(ctx context.Context, web *http.Client, url string, body []byte) ([]byte, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	a, err := web.Do(q)
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	answer, err := io.ReadAll(a.Body)
	if err == nil && a.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s", url, a.Status, answer)
	}
	return answer, err
}
