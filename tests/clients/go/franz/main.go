// franz-go under the contract of ../../README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"bellwether/clients/contract"
)

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

func options(a contract.Arguments, more ...kgo.Opt) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(a.Bootstrap...),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		kgo.MetadataMinAge(50 * time.Millisecond),
	}
	if os.Getenv("CLIENT_LOG") != "" {
		opts = append(opts, kgo.WithLogger(kgo.BasicLogger(os.Stderr, kgo.LogLevelDebug, nil)))
	}
	return append(opts, more...)
}

func produce(a contract.Arguments) error {
	opts := options(a,
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(codecs[a.Compression]),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(5*time.Millisecond),
		kgo.RecordDeliveryTimeout(90*time.Second),
	)
	if !a.Idempotent {
		// A record that is sent again must not overtake another.
		opts = append(opts, kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1))
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx := context.Background()
	err = a.Records(func(r contract.Record) {
		record := &kgo.Record{Topic: a.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value}
		for _, header := range r.Headers {
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: header[0], Value: []byte(header[1])})
		}
		client.Produce(ctx, record, func(sent *kgo.Record, err error) {
			contract.Settled(r.Number, sent.Partition, sent.Offset, err)
		})
	})
	if err != nil {
		return err
	}
	return client.Flush(ctx)
}

func consume(a contract.Arguments) error {
	told := contract.UntilTold()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-told
		cancel()
	}()
	asking, err := kgo.NewClient(options(a)...)
	if err != nil {
		return err
	}
	admin := kadm.NewClient(asking)
	defer admin.Close()
	beginnings, ends, err := bounds(ctx, admin, a)
	if err != nil {
		return err
	}
	starts := map[int32]kgo.Offset{}
	for partition := range int32(a.Partitions) {
		beginning, _ := beginnings.Lookup(a.Topic, partition)
		end, _ := ends.Lookup(a.Topic, partition)
		contract.InRange(partition, beginning.Offset, end.Offset)
		starts[partition] = kgo.NewOffset().At(beginning.Offset)
	}
	client, err := kgo.NewClient(options(a,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{a.Topic: starts}),
		kgo.FetchMaxWait(50*time.Millisecond),
	)...)
	if err != nil {
		return err
	}
	defer client.Close()
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		for _, failed := range fetches.Errors() {
			if ctx.Err() == nil {
				return failed.Err
			}
		}
		fetches.EachRecord(func(r *kgo.Record) {
			contract.ReadRecord(r.Partition, r.Offset, r.Key, r.Value, headersOf(r))
		})
		contract.Flush()
	}
	return nil
}

func headersOf(r *kgo.Record) [][2]string {
	var headers [][2]string
	for _, header := range r.Headers {
		headers = append(headers, [2]string{header.Key, string(header.Value)})
	}
	return headers
}

// assignment is what a member has, told when it changes.
type assignment struct {
	mutex sync.Mutex
	has   []int32
}

func (a *assignment) add(partitions []int32) {
	a.change(func(has []int32) []int32 { return append(has, partitions...) })
}

func (a *assignment) remove(partitions []int32) {
	a.change(func(has []int32) []int32 {
		return slices.DeleteFunc(has, func(p int32) bool { return slices.Contains(partitions, p) })
	})
}

func (a *assignment) change(change func([]int32) []int32) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.has = change(a.has)
	slices.Sort(a.has)
	contract.Assigned(append([]int32{}, a.has...))
}

func member(a contract.Arguments) error {
	told := contract.UntilTold()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-told
		cancel()
	}()
	var has assignment
	lost := func(_ context.Context, _ *kgo.Client, lost map[string][]int32) { has.remove(lost[a.Topic]) }
	opts := options(a,
		kgo.ConsumerGroup(a.Group),
		kgo.ConsumeTopics(a.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(a.Session),
		kgo.HeartbeatInterval(a.Session/10),
		kgo.FetchMaxWait(50*time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, added map[string][]int32) {
			has.add(added[a.Topic])
		}),
		kgo.OnPartitionsRevoked(lost),
		kgo.OnPartitionsLost(lost),
	)
	if a.Protocol == "consumer" {
		opts = append(opts, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer()))
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		fetches := client.PollRecords(ctx, 100)
		for _, failed := range fetches.Errors() {
			if ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "fetch:", failed.Err)
			}
		}
		fetches.EachRecord(func(r *kgo.Record) {
			contract.Process(r.Partition, r.Offset, r.Key, r.Value, headersOf(r))
		})
		client.CommitOffsetsSync(context.Background(), client.UncommittedOffsets(), committed)
		client.AllowRebalance()
	}
	admin := kadm.NewClient(client)
	ctx = context.Background()
	offsets, err := admin.FetchOffsets(ctx, a.Group)
	if err != nil {
		return err
	}
	_, ends, err := bounds(ctx, admin, a)
	if err != nil {
		return err
	}
	for partition := range int32(a.Partitions) {
		offset, _ := offsets.Lookup(a.Topic, partition)
		end, _ := ends.Lookup(a.Topic, partition)
		if offset.Err != nil {
			return fmt.Errorf("lag: %v", offset.Err)
		}
		contract.Lag(partition, offset.At, end.Offset)
	}
	client.CloseAllowingRebalance()
	return nil
}

// committed tells what of a commit was acknowledged. The rest comes again, or is committed with the next.
func committed(_ *kgo.Client, asked *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "commit:", err)
		return
	}
	offsets := map[int32]int64{}
	for _, topic := range asked.Topics {
		for _, partition := range topic.Partitions {
			offsets[partition.Partition] = partition.Offset
		}
	}
	for _, topic := range answer.Topics {
		for _, partition := range topic.Partitions {
			if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
				fmt.Fprintln(os.Stderr, "commit:", err)
			} else {
				contract.Committed(partition.Partition, offsets[partition.Partition])
			}
		}
	}
}

func main() {
	contract.Run("franz-go "+contract.Version("github.com/twmb/franz-go"), produce, consume, member)
}

// Where the partitions begin and end. The library asks only once, and a leader may just have changed.
func bounds(ctx context.Context, admin *kadm.Client, a contract.Arguments) (kadm.ListedOffsets, kadm.ListedOffsets, error) {
	deadline := time.Now().Add(30 * time.Second)
	for {
		beginnings, err := admin.ListStartOffsets(ctx, a.Topic)
		if err != nil {
			return nil, nil, err
		}
		ends, err := admin.ListEndOffsets(ctx, a.Topic)
		if err != nil {
			return nil, nil, err
		}
		err = errors.Join(beginnings.Error(), ends.Error())
		if err == nil || !kerr.IsRetriable(err) || time.Now().After(deadline) {
			return beginnings, ends, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}
