// Attention by tiles against the same attention with its matrix, in double.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Kernels.Tests.Reference;
using Xunit;

namespace IptNative.Kernels.Tests.Gpu;

public abstract class TiledAttentionTests<TDevice> : OpTests<TDevice>
    where TDevice : ITestDevice
{
    [Theory]
    [InlineData(1, 1, 1, 1, false, false)]
    [InlineData(2, 5, 3, 7, false, true)]
    [InlineData(9, 9, 2, 16, false, true)]
    [InlineData(17, 33, 2, 8, false, true)]
    [InlineData(33, 17, 1, 20, true, false)]
    [InlineData(19, 19, 2, 32, true, true)]
    [InlineData(3, 40, 2, 17, false, false)]
    public void MatchesTheReference(int Tq, int Tk, int H, int K, bool causal, bool biased)
    {
        const int B = 3;
        float[] q = Normal(B * Tq * H * K, 1), k = Normal(B * Tk * H * K, 2), v = Normal(B * Tk * H * K, 3), dy = Normal(B * Tq * H * K, 4), bias = Normal(H * (Tq + Tk - 1), 5);
        // Full, padded, and an example without any key.
        int[] lengths = [Tk, (Tk + 1) / 2, 0];
        Tensor tq = Upload(q), tk = Upload(k), tv = Upload(v), tbias = biased ? Upload(bias) : default, y = Empty(q.Length), l = Empty(B * H * Tq);
        Tensor dq = Empty(q.Length), dk = Empty(k.Length), dv = Empty(v.Length), tdy = Upload(dy);
        var mask = new KeyMask(Upload(lengths), default, causal);
        TiledAttention.Forward(Device, tq, tk, tv, tbias, mask, l, y, B, H, Tq, Tk, K);
        TiledAttention.Backward(Device, tq, tk, tv, tbias, mask, l, y, tdy, dq, dk, dv, B, H, Tq, Tk, K);

        double[] expectedY = new double[q.Length], expectedDq = new double[q.Length], expectedDk = new double[k.Length], expectedDv = new double[k.Length];
        for (int b = 0; b < B; b++)
        {
            for (int h = 0; h < H; h++)
            {
                int Q(int i, int d) => ((b * Tq + i) * H + h) * K + d;
                int Key(int j, int d) => ((b * Tk + j) * H + h) * K + d;
                var s = new double[Tq * Tk];
                var seen = new bool[Tq * Tk];
                for (int i = 0; i < Tq; i++)
                {
                    for (int j = 0; j < Tk; j++)
                    {
                        seen[i * Tk + j] = j < lengths[b] && (!causal || j <= i + Tk - Tq);
                        s[i * Tk + j] = biased ? bias[h * (Tq + Tk - 1) + j - i + Tq - 1] : 0;
                        for (int d = 0; d < K; d++)
                            s[i * Tk + j] += (double)q[Q(i, d)] * k[Key(j, d)];
                    }
                }
                double[] p = AttentionReference.Forward<double, DoubleMath>(s, null, seen, 1, 1, Tq, Tk), dp = new double[Tq * Tk];
                for (int i = 0; i < Tq; i++)
                {
                    for (int j = 0; j < Tk; j++)
                    {
                        for (int d = 0; d < K; d++)
                        {
                            expectedY[Q(i, d)] += p[i * Tk + j] * v[Key(j, d)];
                            dp[i * Tk + j] += (double)dy[Q(i, d)] * v[Key(j, d)];
                            expectedDv[Key(j, d)] += p[i * Tk + j] * dy[Q(i, d)];
                        }
                    }
                }
                double[] ds = AttentionReference.Backward(p, dp, Tq, Tk);
                for (int i = 0; i < Tq; i++)
                {
                    for (int j = 0; j < Tk; j++)
                    {
                        for (int d = 0; d < K; d++)
                        {
                            expectedDq[Q(i, d)] += ds[i * Tk + j] * k[Key(j, d)];
                            expectedDk[Key(j, d)] += ds[i * Tk + j] * q[Q(i, d)];
                        }
                    }
                }
            }
        }
        // A score of up to about 25 here errs by some 10 eps of its products' size, which is relative in p; dp cancels against delta.
        TensorAssert.CloseToLargest(expectedY, Download(y), 100, "y");
        TensorAssert.CloseToLargest(expectedDq, Download(dq), 200, "dq");
        TensorAssert.CloseToLargest(expectedDk, Download(dk), 200, "dk");
        TensorAssert.CloseToLargest(expectedDv, Download(dv), 200, "dv");
    }

    [Fact]
    public void LargeScoresDoNotOverflow()
    {
        Tensor q = Upload([100f]), k = Upload([50f, 1f, -50f]), v = Upload([1f, 2f, 3f]), l = Empty(1), y = Empty(1);
        TiledAttention.Forward(Device, q, k, v, default, default, l, y, 1, 1, 1, 3, 1);
        Assert.Equal([1f], Download(y));
        Assert.Equal([5000f], Download(l));
    }

    [Fact]
    public void WhatItCannotDoIsNamed()
    {
        Tensor x = Upload(new float[6]), l = Upload(new float[2]);
        var e = Assert.Throws<ArgumentException>(() => TiledAttention.Forward(Device, x, x, x, default, new KeyMask(default, Upload(new float[2]), false), l, x, 1, 1, 2, 2, 3));
        Assert.StartsWith("TiledAttention.Forward: mask.Mask has 2 elements, expected none.", e.Message);
        e = Refusal(() => TiledAttention.Forward(Device, x, x, x, default, new KeyMask(Upload([3]), default, false), l, Empty(6), 1, 1, 2, 2, 3));
        Assert.StartsWith("TiledAttention.Forward: mask.Lengths[0] is 3, expected 0 to Tk = 2.", e.Message);
    }
}

public sealed class IlgpuTiledAttentionTests : TiledAttentionTests<IlgpuTestDevice>;
