// Attention of one example's head, and its gradients, as plain loops. Slow on purpose.
using System.Numerics;

namespace IptNative.Kernels.Tests.Reference;

public static class PackedAttentionReference
{
    /// <summary>The probabilities [queries, keys]. A hidden key takes no part; the bias is by distance, for the longest of <paramref name="length"/>.</summary>
    public static T[] Probabilities<T, TMath>(T[] q, T[] k, double[]? bias, int length, int queries, int keys, int dKv, bool causal)
        where T : INumberBase<T>
        where TMath : IMath<T>
    {
        var p = new T[queries * keys];
        for (int i = 0; i < queries; i++)
        {
            double max = double.NegativeInfinity;
            int visible = causal ? i + 1 : keys;
            for (int j = 0; j < visible; j++)
            {
                T s = T.Zero;
                for (int d = 0; d < dKv; d++)
                    s += q[i * dKv + d] * k[j * dKv + d];
                if (bias is not null)
                    s += T.CreateChecked(bias[j - i + length - 1]);
                p[i * keys + j] = s;
                max = Math.Max(max, TMath.Real(s));
            }
            T sum = T.Zero;
            for (int j = 0; j < visible; j++)
            {
                p[i * keys + j] = TMath.Exp(p[i * keys + j] - T.CreateChecked(max));
                sum += p[i * keys + j];
            }
            for (int j = 0; j < visible; j++)
                p[i * keys + j] /= sum;
        }
        return p;
    }

    /// <summary>context [queries, K] = p v.</summary>
    public static T[] Mix<T>(T[] p, T[] v, int queries, int keys, int dKv)
        where T : INumberBase<T>
    {
        var context = new T[queries * dKv];
        for (int i = 0; i < queries; i++)
        {
            for (int j = 0; j < keys; j++)
            {
                for (int d = 0; d < dKv; d++)
                    context[i * dKv + d] += p[i * keys + j] * v[j * dKv + d];
            }
        }
        return context;
    }

    public static (double[] Dq, double[] Dk, double[] Dv) Backward(double[] q, double[] k, double[] v, double[] p, double[] dc, int queries, int keys, int dKv)
    {
        double[] dq = new double[queries * dKv], dk = new double[keys * dKv], dv = new double[keys * dKv], dp = new double[keys];
        for (int i = 0; i < queries; i++)
        {
            double mean = 0;
            for (int j = 0; j < keys; j++)
            {
                dp[j] = 0;
                for (int d = 0; d < dKv; d++)
                    dp[j] += dc[i * dKv + d] * v[j * dKv + d];
                mean += dp[j] * p[i * keys + j];
            }
            for (int j = 0; j < keys; j++)
            {
                double ds = p[i * keys + j] * (dp[j] - mean);
                for (int d = 0; d < dKv; d++)
                {
                    dq[i * dKv + d] += ds * k[j * dKv + d];
                    dk[j * dKv + d] += ds * q[i * dKv + d];
                    dv[j * dKv + d] += p[i * keys + j] * dc[i * dKv + d];
                }
            }
        }
        return (dq, dk, dv);
    }
}
