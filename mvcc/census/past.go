package census

import (
	"slices"
	"sync"

	"holdfast/kv"
)

// Past remembers versions of older revisions: the pages of one list all ask for the revision of the first. Versions
// share what did not change between them; one that shares nothing takes some 0.1 bytes a key of the store.
type Past struct {
	mu       sync.Mutex   // guards the field below
	versions []remembered // the most recently used first
}

type remembered struct {
	revision kv.Revision
	version  *Version
}

// pastMax is how many lists in pages can go on at once before one of them has to find its version again. With ten
// million keys that all change meanwhile they take 30 MB.
const pastMax = 32

// Remember keeps v, the version at revision, and forgets the one that was not used for the longest time.
func (p *Past) Remember(revision kv.Revision, v *Version) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.versions, func(r remembered) bool { return r.revision == revision })
	if i < 0 {
		if i = len(p.versions); i == pastMax {
			i--
		} else {
			p.versions = append(p.versions, remembered{})
		}
	}
	p.front(i, remembered{revision, v})
}

// Nearest returns the remembered version whose revision is closest to the given one; nil if there is none.
func (p *Past) Nearest(revision kv.Revision) (kv.Revision, *Version) {
	p.mu.Lock()
	defer p.mu.Unlock()
	best := -1
	for i, r := range p.versions {
		if best < 0 || distance(r.revision, revision) < distance(p.versions[best].revision, revision) {
			best = i
		}
	}
	if best < 0 {
		return 0, nil
	}
	r := p.versions[best]
	p.front(best, r)
	return r.revision, r.version
}

// Forget drops every version: another store takes the place of the one they belong to.
func (p *Past) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.versions = nil
}

func distance(a, b kv.Revision) kv.Revision { return max(a-b, b-a) }

// front puts r first and lets the place i go.
func (p *Past) front(i int, r remembered) {
	copy(p.versions[1:i+1], p.versions[:i])
	p.versions[0] = r
}
