using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Kernels.Tests.Reference;
using Xunit;

namespace IptNative.Kernels.Tests.Ops;

/// <summary>The ops that move numbers without changing them: everything here is exact.</summary>
public abstract class LayoutTests<TDevice> : OpTests<TDevice>
    where TDevice : ITestDevice
{
    [Fact]
    public void BucketsAreHuggingFaces()
    {
        long[] golden = Goldens.Read<long>("relative_buckets");
        int n = golden.Length / 3;
        for (int i = 0; i < n; i++)
        {
            Assert.Equal(golden[n + i], RelativePositionBias.Bucket(golden[i], true, 32, 128));
            Assert.Equal(golden[2 * n + i], RelativePositionBias.Bucket(golden[i], false, 32, 128));
        }
    }

    [Theory]
    [InlineData(32, 128)]
    [InlineData(8, 20)]
    [InlineData(4, 3)]
    public void BucketsOfOtherSizesFollowTheSameCode(int buckets, int maxDistance)
    {
        for (int d = -5000; d <= 5000; d++)
        {
            Assert.Equal(AttentionReference.Bucket(d, true, buckets, maxDistance), RelativePositionBias.Bucket(d, true, buckets, maxDistance));
            Assert.Equal(AttentionReference.Bucket(d, false, buckets, maxDistance), RelativePositionBias.Bucket(d, false, buckets, maxDistance));
        }
        Assert.InRange(RelativePositionBias.Bucket(long.MaxValue / 2, true, buckets, maxDistance), 0, buckets - 1);
    }

    [Theory]
    [InlineData(1, 1, true)]
    [InlineData(5, 5, false)]
    [InlineData(3, 17, true)]
    [InlineData(33, 4, false)]
    [InlineData(150, 149, true)]
    public void PositionBiasReadsTheTable(int Tq, int Tk, bool bidirectional)
    {
        const int H = 3;
        float[] table = Normal(32 * H, 1);
        Tensor full = Empty(H * Tq * Tk);
        RelativePositionBias.Forward(Device, Upload(table), full, 32, H, Tq, Tk, bidirectional, 128);
        float[] actual = Download(full);
        for (int i = 0; i < actual.Length; i++)
        {
            int k = i % Tk, q = i / Tk % Tq, h = i / Tk / Tq;
            Assert.Equal(table[AttentionReference.Bucket(k - q, bidirectional, 32, 128) * H + h], actual[i]);
        }
    }

    [Fact]
    public void ImpossibleBucketsAreNamed()
    {
        var e = Assert.Throws<ArgumentException>(() => RelativePositionBias.Bucket(1, true, 3, 128));
        Assert.StartsWith("RelativePositionBias.Bucket: buckets is 3, expected 4 or more.", e.Message);
        e = Assert.Throws<ArgumentException>(() => RelativePositionBias.Bucket(1, true, 32, 8));
        Assert.StartsWith("RelativePositionBias.Bucket: maxDistance is 8, expected 9 or more.", e.Message);
    }

    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.F16)]
    [InlineData(DType.BF16)]
    public void EmbeddingsAreLookedUpAndKeptRowsStay(DType type)
    {
        const int V = 11, D = 33;
        float[] table = Normal(V * D, 1), old = Normal(4 * D, 2);
        Tensor t = type == DType.F32 ? Upload(table) : Upload(Narrow(table, type), type), y = Upload(old);
        EmbeddingGather.Forward(Device, t, Upload([10, EmbeddingGather.Keep, 0, 10]), y, 4, V, D);
        float[] actual = Download(y);
        int[] from = [10, -1, 0, 10];
        for (int i = 0; i < actual.Length; i++)
            Assert.Equal(from[i / D] < 0 ? old[i] : Rounded(table[from[i / D] * D + i % D], type), actual[i]);
        var e = Refusal(() => EmbeddingGather.Forward(Device, t, Upload([0, 11]), y.Slice(0, 2 * D), 2, V, D));
        Assert.StartsWith("EmbeddingGather.Forward: ids[1] is 11, expected 0 to V - 1 = 10", e.Message);
    }

    [Fact]
    public void PromptsOfSeveralLengthsMixInABatch()
    {
        const int B = 4, S = 6, D = 17, Rows = 5;
        float[] prompts = Normal(Rows * D, 1), old = Normal(B * S * D, 2), dy = Normal(B * S * D, 3), before = Normal(Rows * D, 4);
        // Two examples share prompt rows 0-2, one holds 3-4 further right, one has none.
        int[] places = [0, 3, 0, 3, 2, 4, 0, 3, 1, 0, 0, 0];
        Tensor y = Upload(old), at = Upload(places), dprompts = Empty(Rows * D), sum = Upload(before);
        PromptGather.Forward(Device, Upload(prompts), at, y, Rows, B, S, D);
        PromptGather.Backward(Device, at, Upload(dy), dprompts, Rows, B, S, D);
        PromptGather.BackwardAccumulate(Device, at, Upload(dy), sum, Rows, B, S, D);
        float[] expected = [.. old], gradient = new float[Rows * D], accumulated = [.. before];
        for (int b = 0; b < B; b++)
        {
            for (int i = 0; i < places[3 * b + 1] * D; i++)
            {
                expected[(b * S + places[3 * b + 2]) * D + i] = prompts[places[3 * b] * D + i];
                gradient[places[3 * b] * D + i] += dy[(b * S + places[3 * b + 2]) * D + i];
                accumulated[places[3 * b] * D + i] += dy[(b * S + places[3 * b + 2]) * D + i];
            }
        }
        TensorAssert.SameBits(expected, Download(y), "PromptGather.Forward");
        TensorAssert.SameBits(gradient, Download(dprompts), "PromptGather.Backward");
        TensorAssert.SameBits(accumulated, Download(sum), "PromptGather.BackwardAccumulate");
    }

    [Fact]
    public void BackwardIsTheTransposeOfForward()
    {
        // dot(dy, gather(p)) = dot(scatter(dy), p), the definition of the adjoint; y starts at zero.
        const int B = 5, S = 9, D = 33, Rows = 7;
        float[] p = Normal(Rows * D, 1), dy = Normal(B * S * D, 2);
        Tensor places = Upload([0, 4, 1, 4, 3, 6, 2, 5, 0, 6, 1, 8, 0, 7, 2]), y = Upload(new float[B * S * D]), dp = Empty(Rows * D);
        PromptGather.Forward(Device, Upload(p), places, y, Rows, B, S, D);
        PromptGather.Backward(Device, places, Upload(dy), dp, Rows, B, S, D);
        double left = Download(y).Zip(dy, (a, b) => (double)a * b).Sum(), right = Download(dp).Zip(p, (a, b) => (double)a * b).Sum();
        Assert.Equal(left, right, 1e-4);
    }

    [Fact]
    public void APlaceOutsideIsNamed()
    {
        Tensor prompts = Upload(new float[6]), y = Upload(new float[8]);
        var e = Refusal(() => PromptGather.Forward(Device, prompts, Upload([1, 3, 0]), y, 3, 1, 4, 2));
        Assert.StartsWith("PromptGather.Forward: places[0] is (first 1, length 3, position 0), expected a range inside 3 prompt rows and inside 4 positions.", e.Message);
    }

    [Theory]
    [InlineData(DType.F16)]
    [InlineData(DType.BF16)]
    public void ConversionRoundsToEven(DType type)
    {
        float[] x = [.. Normal(9001, 1), 0f, -0f, 1e30f, -1e30f, 1e-7f, 6e-8f, 65504f, 65519.99f, 65520f, float.NaN, float.PositiveInfinity, float.MaxValue, 1.00390625f, 1.01171875f, 1.00048828125f];
        Tensor narrow = Upload(new ushort[x.Length], type), wide = Empty(x.Length);
        Conversion.FromF32(Device, Upload(x), narrow, x.Length);
        Conversion.ToF32(Device, narrow, wide, x.Length);
        float[] actual = Download(wide);
        for (int i = 0; i < x.Length; i++)
            Assert.True(Rounded(x[i], type).Equals(actual[i]), $"{type} of {x[i]:R}: {actual[i]:R}, expected {Rounded(x[i], type):R}.");
    }

    private static ushort[] Narrow(float[] x, DType type) =>
        Array.ConvertAll(x, v => type == DType.F16 ? BitConverter.HalfToUInt16Bits((Half)v) : (ushort)(BitConverter.SingleToUInt32Bits(Rounded(v, type)) >> 16));

    // bfloat16 by arithmetic: 8 significant bits, ties to even, through double.
    private static float Rounded(float x, DType type)
    {
        if (type == DType.F32 || !float.IsFinite(x) || x == 0)
            return x;
        if (type == DType.F16)
            return (float)(Half)x;
        int exponent = Math.Max(Math.ILogB(x), -126);
        double unit = Math.ScaleB(1, exponent - 7);
        double rounded = Math.Round(x / unit, MidpointRounding.ToEven) * unit;
        return (float)rounded;
    }
}

public sealed class CpuLayoutTests : LayoutTests<CpuTestDevice>;
