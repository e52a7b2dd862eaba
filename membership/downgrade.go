package membership

import (
	"encoding/json"
	"fmt"

	"holdfast/storage"
)

// Downgrade says whether the cluster is on its way back to an older version, and to which. The JSON form is etcd's: it is a row of
// a database file.
type Downgrade struct {
	TargetVersion string `json:"target-version"` // such as 3.6.0; empty unless Enabled
	Enabled       bool   `json:"enabled"`
}

func downgradeKey() []byte { return storage.TableCluster.Key([]byte("downgrade")) }

func (c *Cluster) loadDowngrade(view storage.View) error {
	value, found, err := view.Get(downgradeKey())
	if err != nil || !found {
		return err
	}
	c.downgrade = new(Downgrade)
	if err := json.Unmarshal(value, c.downgrade); err != nil {
		return fmt.Errorf("downgrade: %w", err)
	}
	return nil
}

// Downgrade tells whether the cluster is being downgraded; ever is false if that was never asked for.
func (c *Cluster) Downgrade() (d Downgrade, ever bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.downgrade == nil {
		return Downgrade{}, false
	}
	return *c.downgrade, true
}

// SetDowngrade begins a downgrade, or ends it.
func (c *Cluster) SetDowngrade(b *storage.Batch, d Downgrade) {
	row, err := json.Marshal(d)
	if err != nil {
		panic(fmt.Sprintf("membership: downgrade %+v has no JSON form: %v", d, err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.downgrade = &d
	b.Set(downgradeKey(), row)
}
