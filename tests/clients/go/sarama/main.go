// sarama under the contract of ../../README.md.
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"bellwether/clients/contract"
)

var codecs = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

func settings() *sarama.Config {
	if os.Getenv("CLIENT_LOG") != "" {
		sarama.Logger = log.New(os.Stderr, "", log.Lmicroseconds)
		sarama.DebugLogger = sarama.Logger
	}
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Metadata.Retry.Max = 200
	config.Metadata.Retry.Backoff = 50 * time.Millisecond
	// sarama asks a broker once for its versions and else relies on the configured one.
	config.ApiVersionsRequest = true
	return config
}

func produce(a contract.Arguments) error {
	config := settings()
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Compression = codecs[a.Compression]
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Return.Successes = true
	config.Producer.Return.Errors = true
	config.Producer.Flush.Frequency = 5 * time.Millisecond
	config.Producer.Retry.Max = 200
	config.Producer.Retry.Backoff = 50 * time.Millisecond
	config.Producer.Idempotent = a.Idempotent
	// What idempotence wants; and without it a record that is sent again must not overtake another.
	config.Net.MaxOpenRequests = 1
	producer, err := sarama.NewAsyncProducer(a.Bootstrap, config)
	if err != nil {
		return err
	}
	var settled sync.WaitGroup
	settled.Add(2)
	go func() {
		defer settled.Done()
		for sent := range producer.Successes() {
			contract.Settled(sent.Metadata.(int), sent.Partition, sent.Offset, nil)
		}
	}()
	go func() {
		defer settled.Done()
		for failed := range producer.Errors() {
			contract.Settled(failed.Msg.Metadata.(int), 0, 0, failed.Err)
		}
	}()
	err = a.Records(func(r contract.Record) {
		message := &sarama.ProducerMessage{
			Topic: a.Topic, Partition: r.Partition, Metadata: r.Number,
			Key: sarama.ByteEncoder(r.Key), Value: sarama.ByteEncoder(r.Value),
		}
		for _, header := range r.Headers {
			pair := sarama.RecordHeader{Key: []byte(header[0]), Value: []byte(header[1])}
			message.Headers = append(message.Headers, pair)
		}
		producer.Input() <- message
	})
	producer.AsyncClose()
	settled.Wait()
	return err
}

func consume(a contract.Arguments) error {
	told := contract.UntilTold()
	config := settings()
	config.Consumer.MaxWaitTime = 50 * time.Millisecond
	config.Consumer.Retry.Backoff = 50 * time.Millisecond
	config.Consumer.Return.Errors = true
	client, err := sarama.NewClient(a.Bootstrap, config)
	if err != nil {
		return err
	}
	defer client.Close()
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return err
	}
	defer consumer.Close()
	var reading sync.WaitGroup
	defer reading.Wait()
	for partition := range int32(a.Partitions) {
		beginning, err := client.GetOffset(a.Topic, partition, sarama.OffsetOldest)
		if err != nil {
			return err
		}
		end, err := client.GetOffset(a.Topic, partition, sarama.OffsetNewest)
		if err != nil {
			return err
		}
		contract.InRange(partition, beginning, end)
		messages, err := consumer.ConsumePartition(a.Topic, partition, beginning)
		if err != nil {
			return err
		}
		reading.Go(func() { readPartition(messages, told) })
	}
	return nil
}

func readPartition(messages sarama.PartitionConsumer, told <-chan struct{}) {
	defer messages.Close()
	idle := time.NewTicker(50 * time.Millisecond)
	defer idle.Stop()
	for {
		select {
		case message := <-messages.Messages():
			contract.ReadRecord(message.Partition, message.Offset, message.Key, message.Value, headersOf(message))
		case failed := <-messages.Errors():
			// It goes on by itself.
			log.Print(failed)
		case <-idle.C:
			contract.Flush()
		case <-told:
			return
		}
	}
}

func headersOf(message *sarama.ConsumerMessage) [][2]string {
	headers := [][2]string{}
	for _, header := range message.Headers {
		headers = append(headers, [2]string{string(header.Key), string(header.Value)})
	}
	return headers
}

// handler is a member at work. The library does not say which commits were acknowledged.
type handler struct{ topic string }

func (h handler) Setup(session sarama.ConsumerGroupSession) error {
	contract.Assigned(append([]int32{}, session.Claims()[h.topic]...))
	return nil
}

func (h handler) Cleanup(sarama.ConsumerGroupSession) error {
	contract.Assigned([]int32{})
	return nil
}

func (h handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	done := 0
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				session.Commit()
				return nil
			}
			contract.Process(message.Partition, message.Offset, message.Key, message.Value, headersOf(message))
			session.MarkMessage(message, "")
			if done++; done%20 == 0 {
				session.Commit()
			}
		case <-time.After(100 * time.Millisecond):
			session.Commit()
		case <-session.Context().Done():
			session.Commit()
			return nil
		}
	}
}

func member(a contract.Arguments) error {
	told := contract.UntilTold()
	config := settings()
	config.Consumer.Group.Session.Timeout = a.Session
	config.Consumer.Group.Heartbeat.Interval = a.Session / 10
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.MaxWaitTime = 50 * time.Millisecond
	config.Consumer.Retry.Backoff = 50 * time.Millisecond
	config.Consumer.Return.Errors = true
	client, err := sarama.NewClient(a.Bootstrap, config)
	if err != nil {
		return err
	}
	defer client.Close()
	group, err := sarama.NewConsumerGroupFromClient(a.Group, client)
	if err != nil {
		return err
	}
	go func() {
		// It goes on by itself.
		for failed := range group.Errors() {
			log.Print(failed)
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-told
		cancel()
	}()
	for ctx.Err() == nil {
		// It returns at each rebalance.
		if err := group.Consume(ctx, []string{a.Topic}, handler{a.Topic}); err != nil {
			if errors.Is(err, sarama.ErrClosedConsumerGroup) {
				return err
			}
			log.Print(err)
			time.Sleep(50 * time.Millisecond)
		}
	}
	if err := group.Close(); err != nil {
		log.Print(err)
	}
	return lag(a, client)
}

func lag(a contract.Arguments, client sarama.Client) error {
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		return err
	}
	wanted := map[string][]int32{}
	for partition := range int32(a.Partitions) {
		wanted[a.Topic] = append(wanted[a.Topic], partition)
	}
	offsets, err := admin.ListConsumerGroupOffsets(a.Group, wanted)
	if err != nil {
		return err
	}
	for partition := range int32(a.Partitions) {
		end, err := client.GetOffset(a.Topic, partition, sarama.OffsetNewest)
		if err != nil {
			return err
		}
		block := offsets.GetBlock(a.Topic, partition)
		if block == nil || block.Err != sarama.ErrNoError {
			return errors.New("no committed offset was told")
		}
		contract.Lag(partition, block.Offset, end)
	}
	return nil
}

func main() {
	contract.Run("sarama "+contract.Version("github.com/IBM/sarama"), produce, consume, member)
}
