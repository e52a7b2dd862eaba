package bench

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

// jsonCallers is how many ask at once through the JSON gateway, as tools for load over HTTP do.
const jsonCallers = 16

func jsonRows() []row {
	var all []row
	for _, op := range []string{"put", "get"} {
		all = append(all, row{
			name: fmt.Sprintf("json-%s-%d", op, jsonCallers),
			asks: fmt.Sprintf("what does a %s of %d B in JSON over HTTP cost, %d at a time?", op, valueBytes, jsonCallers),
			show: showCalls,
			run: func(ctx context.Context, t *task) error {
				web := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: jsonCallers}}
				defer web.CloseIdleConnections()
				return calls{
					setup:   setup{stock: stockKeys(keysBase), inPlace: op == "get", args: []string{roomArg}},
					callers: jsonCallers,
					params:  map[string]any{"keys": keysBase, "value_bytes": valueBytes},
					caller: func(t *task, c *clients, i int, r *rand.Rand) caller {
						base, keys := "http://"+c.conns[0].Target(), t.n(keysBase, keysShort)
						if op == "put" {
							return jsonPut(web, base, r, keys)
						}
						return jsonGet(web, base, r, keys)
					},
				}.run(ctx, t)
			},
		})
	}
	return all
}

func jsonPut(web *http.Client, base string, r *rand.Rand, keys int) caller {
	return func(ctx context.Context) error {
		encode := base64.StdEncoding.EncodeToString
		body := fmt.Appendf(nil, `{"key":%q,"value":%q}`, encode(key(r.IntN(keys))), encode(value(r.IntN(1<<20), valueBytes)))
		_, err := postJSON(ctx, web, base+"/v3/kv/put", body)
		return err
	}
}

func jsonGet(web *http.Client, base string, r *rand.Rand, keys int) caller {
	return func(ctx context.Context) error {
		body := fmt.Appendf(nil, `{"key":%q}`, base64.StdEncoding.EncodeToString(key(r.IntN(keys))))
		answer, err := postJSON(ctx, web, base+"/v3/kv/range", body)
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
