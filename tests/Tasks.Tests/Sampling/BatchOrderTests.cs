using IptNative.Tasks.Sampling;
using Xunit;

namespace IptNative.Tasks.Tests.Sampling;

public sealed class BatchOrderTests
{
    private static int[] Lengths(int count) => [.. Enumerable.Range(0, count).Select(i => 1 + i * 7919 % 61)];

    [Theory]
    [InlineData(1, 4)]
    [InlineData(33, 8)]
    [InlineData(500, 7)]
    [InlineData(64, 1)]
    public void EveryExampleComesOnceInEveryEpoch(int count, int batchSize)
    {
        foreach (bool bucketed in new[] { false, true })
        {
            var order = new BatchOrder(Lengths(count), batchSize, 5, bucketed);
            for (int epoch = 0; epoch < 3; epoch++)
            {
                int[][] batches = [.. Enumerable.Range(0, order.BatchesPerEpoch).Select(i => order.Batch(epoch, i).ToArray())];
                Assert.Equal(Enumerable.Range(0, count), batches.SelectMany(b => b).Order());
                Assert.All(batches, b => Assert.InRange(b.Length, 1, batchSize));
                Assert.Equal((count + batchSize - 1) / batchSize, batches.Length);
            }
        }
    }

    [Fact]
    public void AnyBatchCanBeAskedForFirst()
    {
        var whole = new BatchOrder(Lengths(50), 4, 9);
        int[][] all = [.. Enumerable.Range(0, 40).Select(s => whole.AtStep(s).ToArray())];
        for (int step = 39; step >= 0; step -= 3) Assert.Equal(all[step], new BatchOrder(Lengths(50), 4, 9).AtStep(step));
        Assert.NotEqual(all[0], all[whole.BatchesPerEpoch]);
        Assert.NotEqual(all[0], new BatchOrder(Lengths(50), 4, 10).AtStep(0));
    }

    [Fact]
    public void BucketsSavePadding()
    {
        int[] lengths = Lengths(640);
        long Padded(bool bucketed)
        {
            var order = new BatchOrder(lengths, 8, 1, bucketed);
            return Enumerable.Range(0, order.BatchesPerEpoch).Sum(i => order.Batch(0, i).Max(e => lengths[e]) * (long)order.Batch(0, i).Count);
        }
        // Lengths are even over 1 to 61: plain batches of 8 are padded to about 55, pools of 128 waste a few tokens each.
        Assert.True(Padded(true) < 0.65 * Padded(false), $"{Padded(true)} tokens with buckets, {Padded(false)} without");
    }

    [Fact]
    public void WhatIsImpossibleIsNamed()
    {
        Assert.Contains("0 examples", Assert.Throws<ArgumentException>(() => new BatchOrder([], 1, 1)).Message, StringComparison.Ordinal);
        Assert.Contains("batch size 0", Assert.Throws<ArgumentException>(() => new BatchOrder([1], 0, 1)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => new BatchOrder([1], 1, 1).Batch(0, 1));
    }
}
