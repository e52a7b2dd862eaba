// What the JavaScript client etcd3 must be able to do against the server at HOLDFAST_ENDPOINT: put, get, transactions,
// watches, leases, locks and elections. It is started by node_test.go and exits with 1 at the first surprise.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { Etcd3 } = require('etcd3');

const client = new Etcd3({ hosts: process.env.HOLDFAST_ENDPOINT });

// within fails when a promise stays open for too long.
const within = (promise, what) =>
  Promise.race([
    promise,
    new Promise((_, reject) => setTimeout(() => reject(new Error(`${what}: nothing for 20 s`)), 20_000).unref()),
  ]);

async function keys() {
  await client.put('kv/a').value('1');
  await client.put('kv/b').value('2');
  await client.put('kv/c').value(Buffer.from([0, 255]));
  assert.equal(await client.get('kv/a').string(), '1');
  assert.equal(await client.get('kv/b').number(), 2);
  assert.deepEqual(await client.get('kv/c').buffer(), Buffer.from([0, 255]));
  assert.equal(await client.get('kv/none').string(), null);
  assert.deepEqual(await client.getAll().prefix('kv/').limit(2).keys(), ['kv/a', 'kv/b']);
  assert.deepEqual(await client.getAll().prefix('kv/').sort('Key', 'Descend').keys(), ['kv/c', 'kv/b', 'kv/a']);
  assert.equal(await client.getAll().prefix('kv/').count(), 3);
  const deleted = await client.delete().inRange({ start: 'kv/a', end: 'kv/c' }).getPrevious();
  assert.deepEqual(deleted.map((kv) => kv.value.toString()), ['1', '2']);
  assert.equal(await client.getAll().prefix('kv/').count(), 1);
  const inside = client.namespace('space/');
  await inside.put('x').value('y');
  assert.equal(await client.get('space/x').string(), 'y');
}

async function transactions() {
  const swap = (from, to) =>
    client.if('txn/a', 'Value', '==', from).then(client.put('txn/a').value(to)).else(client.get('txn/a')).commit();
  await client.if('txn/a', 'Create', '==', 0).then(client.put('txn/a').value('1')).commit();
  assert.equal((await swap('1', '2')).succeeded, true);
  const refused = await swap('1', '3');
  assert.equal(refused.succeeded, false);
  assert.equal(refused.responses[0].response_range.kvs[0].value.toString(), '2');
  await client.put('stm/a').value(1);
  await Promise.all(
    [1, 2, 3].map(() =>
      client.stm({ retries: 20 }).transact(async (tx) => {
        await tx.put('stm/a').value((await tx.get('stm/a').number()) + 1);
      }),
    ),
  );
  assert.equal(await client.get('stm/a').number(), 4);
}

async function watches() {
  const began = await client.put('watch/a').value('0');
  const seen = [];
  const watcher = await within(
    client.watch().prefix('watch/').startRevision(began.header.revision).withPreviousKV().create(),
    'create a watch',
  );
  const done = new Promise((resolve) => {
    watcher.on('put', (kv, old) => seen.push(`put ${kv.key}=${kv.value} was ${old ? old.value : 'nothing'}`));
    watcher.on('delete', (kv, old) => {
      seen.push(`delete ${kv.key} was ${old ? old.value : 'nothing'}`);
      resolve();
    });
  });
  await client.put('watch/a').value('1');
  await client.put('elsewhere').value('1');
  await client.delete().key('watch/a');
  await within(done, 'watch');
  assert.deepEqual(seen, ['put watch/a=0 was nothing', 'put watch/a=1 was 0', 'delete watch/a was 1']);
  await within(watcher.cancel(), 'cancel a watch');
}

async function leases() {
  const lease = client.lease(5);
  await lease.put('lease/a').value('1');
  assert.equal((await client.leaseClient.leaseLeases()).leases.length, 1);
  await within(once(lease, 'keepaliveSucceeded'), 'keep a lease alive');
  const watcher = await client.watch().key('lease/a').create();
  const gone = once(watcher, 'delete');
  await lease.revoke();
  await within(gone, 'the key of a revoked lease');
  assert.equal(await client.get('lease/a').string(), null);
  await watcher.cancel();

  const abandoned = client.lease(2, { autoKeepAlive: false });
  await abandoned.put('lease/b').value('1');
  const second = await client.watch().key('lease/b').create();
  await within(once(second, 'delete'), 'the key of an expired lease');
  await second.cancel();
}

async function locks() {
  const held = await client.lock('lock').acquire();
  await assert.rejects(client.lock('lock').acquire(), /lock/i);
  await held.release();
  await client.lock('lock').do(async () => {});
}

async function elections() {
  const election = client.election('election', 5);
  const campaign = election.campaign('one');
  await within(once(campaign, 'elected'), 'be elected');
  assert.equal(await election.leader(), 'one');
  const observer = await within(election.observe(), 'observe an election');
  assert.equal(observer.leader(), 'one');
  const next = election.campaign('two');
  await campaign.resign();
  await within(once(next, 'elected'), 'follow in office');
  await next.resign();
  await observer.cancel();
}

async function server() {
  const status = await client.maintenance.status();
  assert.match(status.version, /^3\.\d+\.\d+/);
  assert.ok(Number(status.dbSize) > 0);
}

async function main() {
  for (const part of [keys, transactions, watches, leases, locks, elections, server]) {
    await within(part(), part.name);
    console.log(`ok ${part.name}`);
  }
  client.close();
}

main().then(
  () => process.exit(0),
  (err) => {
    console.error(err);
    process.exit(1);
  },
);
