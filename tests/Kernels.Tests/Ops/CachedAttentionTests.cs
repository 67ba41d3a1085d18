// One step's attention over slots against plain loops in double, that a row's bits are its own, and the filling and copying of slots.
using System.Runtime.InteropServices;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using Xunit;

namespace IptNative.Kernels.Tests.Ops;

public abstract class CachedAttentionTests<TDevice> : OpTests<TDevice>
    where TDevice : ITestDevice
{
    private sealed record Row(float[] Keys, float[] Values, int Count, int Capacity);

    [Theory]
    [InlineData(1, 1, new[] { 1 })]
    [InlineData(3, 5, new[] { 1, 16, 17, 40 })]
    [InlineData(4, 32, new[] { 31, 33, 7, 64, 100 })]
    [InlineData(2, 17, new[] { 15, 48 })]
    [InlineData(1, 64, new[] { 2, 50 })]
    public void IsTheReference(int H, int K, int[] counts)
    {
        Row[] rows = [.. counts.Select((n, i) => Made(n, H * K, i))];
        float[] q = Normal(rows.Length * H * K, 91), bias = Normal(H * (2 * 128 - 1), 92);
        foreach (bool biased in (bool[])[false, true])
        {
            float[] actual = Run(rows, q, biased ? bias : null, H, K);
            for (int r = 0; r < rows.Length; r++)
            {
                Row row = rows[r];
                for (int h = 0; h < H; h++)
                {
                    double[] s = [.. Enumerable.Range(0, row.Count).Select(j => Enumerable.Range(0, K).Sum(d => (double)q[(r * H + h) * K + d] * row.Keys[(h * K + d) * row.Capacity + j]) + (biased ? bias[h * 255 + 127 + j - (row.Count - 1)] : 0))];
                    double max = s.Max(), sum = s.Sum(x => Math.Exp(x - max));
                    double[] expected = [.. Enumerable.Range(0, K).Select(d => Enumerable.Range(0, row.Count).Sum(j => Math.Exp(s[j] - max) / sum * row.Values[j * H * K + h * K + d]))];
                    // Scores: K products of normal numbers, an error of some sqrt(K) eps K that the softmax passes on to weights and values of a few units.
                    TensorAssert.Close(expected, actual.AsSpan((r * H + h) * K, K), _ => 8 * TensorAssert.Eps * (K + 8), $"context of row {r} head {h}");
                }
            }
        }
    }

    [Fact]
    public void ARowsBitsAreItsOwn()
    {
        const int H = 3, K = 20;
        Row[] rows = [.. new[] { 5, 61, 17, 1 }.Select((n, i) => Made(n, H * K, i))];
        float[] q = Normal(rows.Length * H * K, 5), bias = Normal(H * 255, 6);
        float[] together = Run(rows, q, bias, H, K);
        (float[] one, float[] two) = OnOneAndTwoThreads(() => Run(rows, q, bias, H, K));
        TensorAssert.SameBits(together, one, "on one thread");
        TensorAssert.SameBits(together, two, "on two threads");
        for (int r = 0; r < rows.Length; r++)
        {
            // Alone, and in a slot with more room, whose spare positions hold NaN.
            Row wide = Wider(rows[r], H * K, 128);
            float[] alone = Run([wide], q[(r * H * K)..((r + 1) * H * K)], bias, H, K);
            TensorAssert.SameBits(together.AsSpan(r * H * K, H * K), alone, $"row {r} alone");
        }
    }

    [Fact]
    public void WhatDoesNotFitIsNamed()
    {
        Row row = Made(3, 4, 0);
        Tensor keys = Upload(row.Keys), values = Upload(row.Values), x = Empty(4), scores = Empty(64);
        using var rows = new CachedRows(Device, 4);
        Assert.StartsWith("CachedRows.Add: row 0 has 17 positions in room for 16, expected 1 to its capacity", Refused(() => rows.Add(new CachedKeys(keys, values, 17, 16), 17, 0)), StringComparison.Ordinal);
        Assert.Contains("a multiple of 16", Refused(() => rows.Add(new CachedKeys(keys, values, 3, 15), 3, 0)), StringComparison.Ordinal);
        Assert.Contains("row 0 is filled from position 4 with row 0, expected 0 to its 3 positions", Refused(() => rows.Add(new CachedKeys(keys, values, 3, 16), 4, 0)), StringComparison.Ordinal);
        rows.Add(new CachedKeys(keys, values, 3, 16), 2, 1);
        Assert.Contains("rows 0 to 0 of 0 that were sent", Refused(() => CachedAttention.Forward(Device, x, rows, 0, 1, default, scores, x, 2, 2)), StringComparison.Ordinal);
        rows.Send();
        Assert.Contains("a row has 3 positions, expected 2 at most", Refused(() => CachedAttention.Forward(Device, x, rows, 0, 1, new DistanceBias(Upload(new float[6]), 2), scores, x, 2, 2)), StringComparison.Ordinal);
        Assert.Contains("rows are of width 4 on", Refused(() => CachedAttention.Forward(Device, x, rows, 0, 1, default, scores, x, 2, 3)), StringComparison.Ordinal);
        Assert.StartsWith("KeyValueStore.Append: row 0 takes positions 1 to 1, expected some of the 1 that k has.", Refused(() => KeyValueStore.Append(Device, x, x, rows, 0, 1, 4)), StringComparison.Ordinal);
        Assert.StartsWith("KeyValueStore.Copy: found 17 positions, room for 16 and for 32", Refused(() => KeyValueStore.Copy(Device, keys, 16, values, 32, 1, 4, 17)), StringComparison.Ordinal);

        static string Refused(Action op) => Assert.Throws<ArgumentException>(op).Message;
    }

    /// <summary>Texts as a whole, then a position a row, over several layers of one transfer; widths that are and are not whole 16-byte pieces.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(12)]
    [InlineData(7)]
    public void WhatIsStoredIsFoundInItsPlace(int inner)
    {
        (int First, int Count, int Capacity)[] lengths = [(0, 1, 16), (0, 19, 32), (5, 6, 16), (15, 16, 16), (0, 3, 16)];
        int added = lengths.Sum(l => l.Count - l.First);
        float[] k = Normal(added * inner, 1), v = Normal(added * inner, 2);
        using var rows = new CachedRows(Device, inner);
        var kept = new List<(Tensor Keys, Tensor Values)>();
        int source = 0;
        foreach ((int first, int count, int capacity) in lengths)
        {
            kept.Add((Empty(inner * capacity), Empty(inner * capacity)));
            rows.Add(new CachedKeys(kept[^1].Keys, kept[^1].Values, count, capacity), first, source);
            source += count - first;
        }
        rows.Send();
        // The last one in a call of its own.
        KeyValueStore.Append(Device, Upload(k), Upload(v), rows, 0, lengths.Length - 1, inner);
        Assert.All(Download(kept[^1].Keys), x => Assert.True(float.IsNaN(x)));
        KeyValueStore.Append(Device, Upload(k), Upload(v), rows, lengths.Length - 1, 1, inner);
        source = 0;
        for (int r = 0; r < lengths.Length; r++)
        {
            (int first, int count, int capacity) = lengths[r];
            float[] keys = Enumerable.Repeat(float.NaN, inner * capacity).ToArray(), values = [.. keys];
            for (int p = first; p < count; p++, source++)
            {
                for (int i = 0; i < inner; i++)
                    (keys[i * capacity + p], values[p * inner + i]) = (k[source * inner + i], v[source * inner + i]);
            }
            TensorAssert.SameBits(keys, Download(kept[r].Keys), $"keys of row {r}");
            TensorAssert.SameBits(values, Download(kept[r].Values), $"values of row {r}");
        }
    }

    [Theory]
    [InlineData(1, 3, 16, 16)]
    [InlineData(16, 5, 16, 32)]
    [InlineData(13, 4, 32, 16)]
    public void ACopyBeginsAsTheOriginal(int positions, int inner, int from, int to)
    {
        const int Layers = 3;
        float[] block = Normal(Layers * 2 * inner * from, 3);
        Tensor copy = Empty(Layers * 2 * inner * to);
        KeyValueStore.Copy(Device, Upload(block), from, copy, to, Layers, inner, positions);
        float[] actual = Download(copy);
        for (int layer = 0; layer < Layers; layer++)
        {
            for (int i = 0; i < inner; i++)
            {
                for (int p = 0; p < positions; p++)
                {
                    Assert.Equal(block[2 * layer * inner * from + i * from + p], actual[2 * layer * inner * to + i * to + p]);
                    Assert.Equal(block[(2 * layer + 1) * inner * from + p * inner + i], actual[(2 * layer + 1) * inner * to + p * inner + i]);
                }
            }
        }
    }

    private float[] Run(Row[] rows, float[] q, float[]? bias, int H, int K)
    {
        // Behind another row: a step's attentions share one list.
        using var kept = new CachedRows(Device, H * K);
        kept.Add(new CachedKeys(Empty(H * K * 16), Empty(H * K * 16), 1, 16), 1, 0);
        foreach (Row row in rows)
            kept.Add(new CachedKeys(Upload(row.Keys), Upload(row.Values), row.Count, row.Capacity), row.Count, 0);
        kept.Send();
        Tensor x = Upload(q), scores = Empty(rows.Length * H * rows.Max(r => r.Capacity));
        // The context takes the queries' place, as in a step.
        CachedAttention.Forward(Device, x, kept, 1, rows.Length, bias is null ? default : new DistanceBias(Upload(bias), 128), scores, x, H, K);
        return Download(x);
    }

    private static Row Made(int count, int inner, int seed)
    {
        int capacity = (count + 15) / 16 * 16;
        float[] keys = Normal(inner * capacity, 10 + seed), values = Normal(capacity * inner, 20 + seed);
        for (int i = 0; i < inner; i++)
            keys.AsSpan(i * capacity + count, capacity - count).Fill(float.NaN);
        values.AsSpan(count * inner).Fill(float.NaN);
        return new Row(keys, values, count, capacity);
    }

    private static Row Wider(Row row, int inner, int capacity)
    {
        float[] keys = new float[inner * capacity], values = new float[capacity * inner];
        keys.AsSpan().Fill(float.NaN);
        values.AsSpan().Fill(float.NaN);
        for (int i = 0; i < inner; i++)
            row.Keys.AsSpan(i * row.Capacity, row.Count).CopyTo(keys.AsSpan(i * capacity));
        row.Values.AsSpan(0, row.Count * inner).CopyTo(values);
        return new Row(keys, values, row.Count, capacity);
    }
}

public sealed class CpuCachedAttentionTests : CachedAttentionTests<CpuTestDevice>;

public sealed class PackedMatrixTests : OpTests<CpuTestDevice>
{
    [Theory]
    [InlineData(1, 1, 1)]
    [InlineData(1, 33, 17)]
    [InlineData(16, 128, 128)]
    [InlineData(5, 700, 300)]
    [InlineData(13, 31, 513)]
    [InlineData(241, 40, 24)]
    public void IsTheMatrixProductBitForBit(int rows, int outer, int inner)
    {
        float[] w = Normal(outer * inner, 1), x = Normal(rows * inner, 2), start = Normal(rows * outer, 3);
        var cpu = (CpuDevice)Device;
        using var packed = new PackedMatrix(cpu, Upload(w), outer, inner);
        foreach (bool accumulate in (bool[])[false, true])
        {
            Tensor expected = Upload(start), actual = Upload(start);
            Gemm.Run(cpu, new GemmArgs { A = Upload(x), B = Upload(w), TransB = true, C = expected, M = rows, N = outer, K = inner, Accumulate = accumulate, Alpha = 0.75f });
            packed.Multiply(Upload(x), actual, rows, accumulate, 0.75f);
            TensorAssert.SameBits(Download(expected), Download(actual), $"{rows} x {outer} x {inner}, accumulate {accumulate}");
        }
        // A row alone is the same bits as in company.
        Tensor one = Empty(outer), all = Empty(rows * outer);
        packed.Multiply(Upload(x), all, rows);
        packed.Multiply(Upload(x[((rows - 1) * inner)..]), one, 1);
        TensorAssert.SameBits(Download(all).AsSpan((rows - 1) * outer), Download(one), "the last row alone");
    }

    [Theory]
    [InlineData(1, 8, new[] { 1 })]
    [InlineData(5, 128, new[] { 128, 128, 128 })]
    [InlineData(7, 33, new[] { 17, 96, 16, 5 })]
    [InlineData(14, 900, new[] { 40, 300 })]
    [InlineData(250, 24, new[] { 65, 31, 64 })]
    public void ProductsTogetherAreTheProductsOneByOne(int rows, int inner, int[] outers)
    {
        var cpu = (CpuDevice)Device;
        Tensor x = Upload(Normal(rows * inner, 1));
        PackedMatrix[] matrices = [.. outers.Select((outer, i) => new PackedMatrix(cpu, Upload(Normal(outer * inner, 2 + i)), outer, inner))];
        Tensor[] together = [.. outers.Select(outer => Empty(rows * outer))];
        PackedMatrix.MultiplyAll(x, [.. matrices.Zip(together, (w, y) => new PackedProduct(w, y))], rows);
        for (int i = 0; i < outers.Length; i++)
        {
            Tensor alone = Empty(rows * outers[i]);
            matrices[i].Multiply(x, alone, rows);
            TensorAssert.SameBits(Download(alone), Download(together[i]), $"product {i} of {rows} rows");
        }
        foreach (PackedMatrix matrix in matrices)
            matrix.Dispose();
    }

    [Fact]
    public void ThreadsOfAnotherDeviceReadTheSameCopy()
    {
        float[] w = Normal(70 * 40, 1), x = Normal(6 * 40, 2);
        using var packed = new PackedMatrix((CpuDevice)Device, Upload(w), 70, 40);
        using var other = new CpuDevice(2);
        using DeviceBuffer rows = other.Allocate(DType.F32, 6 * 40, "rows"), results = other.Allocate(DType.F32, 6 * 70, "results");
        other.CopyFromHost(MemoryMarshal.AsBytes<float>(x), rows.Tensor);
        packed.Multiply(rows.Tensor, results.Tensor, 6);
        float[] there = new float[6 * 70];
        other.CopyToHost(results.Tensor, MemoryMarshal.AsBytes(there.AsSpan()));
        Tensor here = Empty(6 * 70);
        packed.Multiply(Upload(x), here, 6);
        TensorAssert.SameBits(Download(here), there, "on a device of its own");
    }

    [Fact]
    public void MatricesThatReadOtherRowsAreRefused()
    {
        using PackedMatrix four = new((CpuDevice)Device, Upload(new float[12]), 3, 4), three = new((CpuDevice)Device, Upload(new float[12]), 4, 3);
        Assert.Contains("matrix 1 has 3 columns, expected 4", Assert.Throws<ArgumentException>(() => PackedMatrix.MultiplyAll(Upload(new float[4]), [new(four, Empty(3)), new(three, Empty(4))], 1)).Message, StringComparison.Ordinal);
        Assert.Contains("found 0 matrices", Assert.Throws<ArgumentException>(() => PackedMatrix.MultiplyAll(Upload(new float[4]), [], 1)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AMatrixOfAnotherSizeIsRefused() =>
        Assert.Contains("found 11", Assert.Throws<ArgumentException>(() => new PackedMatrix((CpuDevice)Device, Upload(new float[11]), 3, 4)).Message, StringComparison.Ordinal);
}
