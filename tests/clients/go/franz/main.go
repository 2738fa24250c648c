// franz-go under the contract of ../../README.md.
package main

import (
	"context"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

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
	beginnings, err := admin.ListStartOffsets(ctx, a.Topic)
	if err != nil {
		return err
	}
	ends, err := admin.ListEndOffsets(ctx, a.Topic)
	if err != nil {
		return err
	}
	starts := map[int32]kgo.Offset{}
	for partition := range int32(a.Partitions) {
		beginning, _ := beginnings.Lookup(a.Topic, partition)
		end, _ := ends.Lookup(a.Topic, partition)
		if beginning.Err != nil || end.Err != nil {
			return beginning.Err
		}
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
			var headers [][2]string
			for _, header := range r.Headers {
				headers = append(headers, [2]string{header.Key, string(header.Value)})
			}
			contract.ReadRecord(r.Partition, r.Offset, r.Key, r.Value, headers)
		})
		contract.Flush()
	}
	return nil
}

func main() {
	contract.Run("franz-go "+contract.Version("github.com/twmb/franz-go"), produce, consume)
}
