// A whole T5 in plain loops over double, written from the paper and HF's modeling_t5.py, not from our graphs. Slow on purpose.
using IptNative.Model.Config;
using IptNative.Model.Tests.Forward;

namespace IptNative.Model.Tests.Reference;

internal sealed class ReferenceT5(MemoryCheckpoint checkpoint)
{
    private readonly T5Config _c = checkpoint.Config;

    /// <summary>The encoder's output [S][D] for one text.</summary>
    public double[][] Encode(double[][] embeds, bool[] read)
    {
        double[][] x = Stack(embeds, "encoder", _c.NumLayers, read, null, null);
        return x;
    }

    /// <summary>Logits [T][V] for one target.</summary>
    public double[][] Decode(int[] ids, double[][] encoded, bool[] read)
    {
        double[][] shared = Matrix(T5Parameters.Shared, _c.DModel);
        double[][] x = Stack([.. ids.Select(id => shared[id])], "decoder", _c.NumDecoderLayers, null, encoded, read);
        if (_c.TieWordEmbeddings)
            x = [.. x.Select(row => row.Select(v => v / Math.Sqrt(_c.DModel)).ToArray())];
        return Linear(x, _c.TieWordEmbeddings ? T5Parameters.Shared : T5Parameters.LmHead);
    }

    private double[][] Stack(double[][] x, string stack, int layers, bool[]? selfRead, double[][]? encoded, bool[]? crossRead)
    {
        bool decoder = encoded is not null;
        double[][] table = Matrix($"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", _c.NumHeads);
        for (int i = 0; i < layers; i++)
        {
            string block = $"{stack}.block.{i}.layer";
            double[][] n = Norm(x, $"{block}.0.layer_norm.weight");
            x = Sum(x, Attention($"{block}.0.SelfAttention", n, n,
                (h, q, k) => table[Bucket(k - q, !decoder)][h] + (decoder ? (k > q ? float.MinValue : 0) : selfRead![k] ? 0 : float.MinValue)));
            if (decoder)
            {
                n = Norm(x, $"{block}.1.layer_norm.weight");
                x = Sum(x, Attention($"{block}.1.EncDecAttention", n, encoded!, (_, _, k) => crossRead![k] ? 0 : float.MinValue));
            }
            int ff = decoder ? 2 : 1;
            n = Norm(x, $"{block}.{ff}.layer_norm.weight");
            string dense = $"{block}.{ff}.DenseReluDense";
            double[][] h = [.. Linear(n, _c.IsGated ? $"{dense}.wi_0.weight" : $"{dense}.wi.weight").Select(row => row.Select(Activation).ToArray())];
            if (_c.IsGated)
            {
                double[][] gate = Linear(n, $"{dense}.wi_1.weight");
                h = [.. h.Select((row, r) => row.Select((v, j) => v * gate[r][j]).ToArray())];
            }
            x = Sum(x, Linear(h, $"{dense}.wo.weight"));
        }
        return Norm(x, $"{stack}.final_layer_norm.weight");
    }

    private double[][] Attention(string path, double[][] x, double[][] memory, Func<int, int, int, double> bias)
    {
        double[][] q = Linear(x, $"{path}.q.weight"), k = Linear(memory, $"{path}.k.weight"), v = Linear(memory, $"{path}.v.weight");
        double[][] mixed = [.. x.Select(_ => new double[_c.InnerDim])];
        for (int h = 0; h < _c.NumHeads; h++)
        {
            int first = h * _c.DKv;
            for (int i = 0; i < x.Length; i++)
            {
                double[] scores = new double[memory.Length];
                for (int j = 0; j < memory.Length; j++)
                {
                    for (int d = first; d < first + _c.DKv; d++)
                        scores[j] += q[i][d] * k[j][d];
                    // HF adds in float32, where a masked score is float.MinValue exactly: in a row with nothing to read all weigh the same.
                    double b = bias(h, i, j);
                    scores[j] = b < -1e38 ? float.MinValue : scores[j] + b;
                }
                double top = scores.Max();
                double sum = scores.Sum(s => Math.Exp(s - top));
                for (int j = 0; j < memory.Length; j++)
                {
                    for (int d = first; d < first + _c.DKv; d++)
                        mixed[i][d] += Math.Exp(scores[j] - top) / sum * v[j][d];
                }
            }
        }
        return Linear(mixed, $"{path}.o.weight");
    }

    private int Bucket(int relative, bool bidirectional)
    {
        int buckets = bidirectional ? _c.RelativeAttentionNumBuckets / 2 : _c.RelativeAttentionNumBuckets;
        int offset = bidirectional && relative > 0 ? buckets : 0;
        int n = bidirectional ? Math.Abs(relative) : Math.Max(-relative, 0);
        int exact = buckets / 2;
        return offset + (n < exact ? n : Math.Min(buckets - 1, exact + (int)(MathF.Log(n / (float)exact) / (float)Math.Log(_c.RelativeAttentionMaxDistance / (double)exact) * (buckets - exact))));
    }

    private double Activation(double x) => _c.IsRelu ? Math.Max(x, 0) : 0.5 * x * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)));

    private double[][] Norm(double[][] x, string weight)
    {
        float[] w = checkpoint.Floats(weight);
        return [.. x.Select(row =>
        {
            double root = Math.Sqrt(row.Sum(v => v * v) / row.Length + _c.LayerNormEpsilon);
            return row.Select((v, i) => v / root * w[i]).ToArray();
        })];
    }

    private double[][] Linear(double[][] x, string weight)
    {
        double[][] w = Matrix(weight, x[0].Length);
        return [.. x.Select(row => w.Select(o =>
        {
            double sum = 0;
            for (int i = 0; i < row.Length; i++)
                sum += row[i] * o[i];
            return sum;
        }).ToArray())];
    }

    private static double[][] Sum(double[][] a, double[][] b) => [.. a.Select((row, r) => row.Select((v, i) => v + b[r][i]).ToArray())];

    private double[][] Matrix(string name, int columns) => [.. checkpoint.Floats(name).Chunk(columns).Select(row => row.Select(v => (double)v).ToArray())];
}
