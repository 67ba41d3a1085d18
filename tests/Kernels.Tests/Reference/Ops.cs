// Every op as plain loops, written from its formula and not from the kernels. Slow on purpose.
using System.Numerics;

namespace IptNative.Kernels.Tests.Reference;

public static class RmsNormReference
{
    public static T[] Forward<T, TMath>(T[] x, T[] w, int rows, int D, T epsilon)
        where T : INumberBase<T>
        where TMath : IMath<T>
    {
        var y = new T[rows * D];
        for (int row = 0; row < rows; row++)
        {
            T squares = T.Zero;
            for (int i = 0; i < D; i++)
                squares += x[row * D + i] * x[row * D + i];
            T rms = TMath.Sqrt(squares / T.CreateChecked(D) + epsilon);
            for (int i = 0; i < D; i++)
                y[row * D + i] = w[i] * x[row * D + i] / rms;
        }
        return y;
    }

    public static double[] Backward(double[] x, double[] w, double[] dy, int rows, int D, double epsilon)
    {
        var dx = new double[rows * D];
        for (int row = 0; row < rows; row++)
        {
            double squares = 0, inner = 0;
            for (int j = 0; j < D; j++)
            {
                squares += x[row * D + j] * x[row * D + j];
                inner += w[j] * dy[row * D + j] * x[row * D + j];
            }
            double r = 1 / Math.Sqrt(squares / D + epsilon);
            for (int i = 0; i < D; i++)
                dx[row * D + i] = r * w[i] * dy[row * D + i] - x[row * D + i] * r * r * r * inner / D;
        }
        return dx;
    }
}

public static class ActivationReference
{
    public static T Gelu<T, TMath>(T x)
        where T : INumberBase<T>
        where TMath : IMath<T>
    {
        T u = T.CreateChecked(Math.Sqrt(2 / Math.PI)) * (x + T.CreateChecked(0.044715) * x * x * x);
        return T.CreateChecked(0.5) * x * (T.One + TMath.Tanh(u));
    }

    public static double GeluDerivative(double x)
    {
        double c = Math.Sqrt(2 / Math.PI), tanh = Math.Tanh(c * (x + 0.044715 * x * x * x));
        return 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh * tanh) * c * (1 + 3 * 0.044715 * x * x);
    }

    public static T Relu<T, TMath>(T x)
        where T : INumberBase<T>
        where TMath : IMath<T> => TMath.Real(x) > 0 ? x : T.Zero;

    public static double ReluDerivative(double x) => x > 0 ? 1 : 0;
}

public static class AttentionReference
{
    /// <summary>HF's way: bias and mask are added, float.MinValue where a key is hidden, and the sum is rounded as a float is.</summary>
    public static T[] Forward<T, TMath>(T[] scores, double[]? bias, bool[] visible, int batch, int H, int Tq, int Tk)
        where T : INumberBase<T>
        where TMath : IMath<T>
    {
        var p = new T[scores.Length];
        for (int row = 0; row < batch * H * Tq; row++)
        {
            int q = row % Tq, h = row / Tq % H, b = row / Tq / H;
            bool any = Enumerable.Range(0, Tk).Any(k => visible[(b * Tq + q) * Tk + k]);
            var s = new T[Tk];
            double max = double.NegativeInfinity;
            for (int k = 0; k < Tk; k++)
            {
                T v = scores[row * Tk + k];
                if (bias is not null)
                    v += T.CreateChecked(bias[(h * Tq + q) * Tk + k]);
                // In float32 a number of ordinary size vanishes beside MinValue.
                s[k] = visible[(b * Tq + q) * Tk + k] ? v : T.CreateChecked((double)float.MinValue);
                max = Math.Max(max, TMath.Real(s[k]));
            }
            T sum = T.Zero;
            for (int k = 0; k < Tk; k++)
            {
                s[k] = any && !visible[(b * Tq + q) * Tk + k] ? T.Zero : TMath.Exp(s[k] - T.CreateChecked(max));
                sum += s[k];
            }
            for (int k = 0; k < Tk; k++)
                p[row * Tk + k] = s[k] / sum;
        }
        return p;
    }

    public static double[] Backward(double[] p, double[] dp, int rows, int Tk)
    {
        var ds = new double[p.Length];
        for (int row = 0; row < rows; row++)
        {
            double inner = 0;
            for (int j = 0; j < Tk; j++)
                inner += dp[row * Tk + j] * p[row * Tk + j];
            for (int k = 0; k < Tk; k++)
                ds[row * Tk + k] = p[row * Tk + k] * (dp[row * Tk + k] - inner);
        }
        return ds;
    }

    /// <summary>HF's position bucket, statement by statement; the logarithm in float32.</summary>
    public static int Bucket(int relativePosition, bool bidirectional, int numBuckets, int maxDistance)
    {
        int buckets = 0;
        if (bidirectional)
        {
            numBuckets /= 2;
            buckets += relativePosition > 0 ? numBuckets : 0;
            relativePosition = Math.Abs(relativePosition);
        }
        else
        {
            relativePosition = -Math.Min(relativePosition, 0);
        }
        int maxExact = numBuckets / 2;
        if (relativePosition < maxExact)
            return buckets + relativePosition;
        int large = maxExact + (int)(MathF.Log(relativePosition / (float)maxExact) / (float)Math.Log(maxDistance / (double)maxExact) * (numBuckets - maxExact));
        return buckets + Math.Min(large, numBuckets - 1);
    }
}

public static class CrossEntropyReference
{
    /// <summary>The target distribution in full, and its cross entropy with softmax(x).</summary>
    public static T[] Forward<T, TMath>(T[] x, int[] labels, int V, int ignore, double smoothing, double zLoss)
        where T : INumberBase<T>
        where TMath : IMath<T>
    {
        var loss = new T[labels.Length];
        for (int row = 0; row < labels.Length; row++)
        {
            if (labels[row] == ignore)
                continue;
            double max = Enumerable.Range(0, V).Max(v => TMath.Real(x[row * V + v]));
            T sum = T.Zero;
            for (int v = 0; v < V; v++)
                sum += TMath.Exp(x[row * V + v] - T.CreateChecked(max));
            T z = T.CreateChecked(max) + TMath.Log(sum);
            for (int v = 0; v < V; v++)
            {
                double target = (v == labels[row] ? 1 - smoothing : 0) + smoothing / V;
                loss[row] -= T.CreateChecked(target) * (x[row * V + v] - z);
            }
            loss[row] += T.CreateChecked(zLoss) * z * z;
        }
        return loss;
    }

    public static double[] Backward(double[] x, int[] labels, double[] weights, int V, int ignore, double smoothing, double zLoss)
    {
        var dx = new double[x.Length];
        for (int row = 0; row < labels.Length; row++)
        {
            if (labels[row] == ignore)
                continue;
            double max = Enumerable.Range(0, V).Max(v => x[row * V + v]);
            double z = max + Math.Log(Enumerable.Range(0, V).Sum(v => Math.Exp(x[row * V + v] - max)));
            for (int v = 0; v < V; v++)
            {
                double target = (v == labels[row] ? 1 - smoothing : 0) + smoothing / V;
                dx[row * V + v] = weights[row] * ((1 + 2 * zLoss * z) * Math.Exp(x[row * V + v] - z) - target);
            }
        }
        return dx;
    }
}
