// Replays a fixture: the same batch through our forward pass, quantity by quantity. Not: printing, tolerances (ParityTolerance).
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Decoding;
using IptNative.Model.Forward;

namespace IptNative.Tuning.Parity;

/// <summary>Compares our numbers with a fixture's.</summary>
public sealed class ParityRun : IDisposable
{
    private readonly ParityFixture _fixture;
    private readonly Checkpoint _checkpoint;
    private readonly FrozenT5 _model;
    private readonly T5Config _config;
    private readonly ParityTolerance _float;
    private readonly DType _dtype;
    private readonly DeviceBuffer _prompt;
    private readonly PromptTable _prompts;
    private readonly ParityTable _table = new();

    private ParityRun(ParityFixture fixture, Checkpoint checkpoint, int threads)
    {
        _fixture = fixture;
        _checkpoint = checkpoint;
        _config = checkpoint.Config;
        _dtype = checkpoint[T5Parameters.Shared].DType;
        _float = ParityTolerance.Float32(_config, _dtype).NotBelow(fixture, "logits");
        _model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = threads });
        float[] prompt = fixture.Floats("prompt");
        _prompt = _model.Device.Allocate(DType.F32, prompt.Length, "prompt");
        _prompt.Tensor.CopyFrom<float>(prompt);
        _prompts = new PromptTable(_prompt.Tensor, _config.DModel, prompt.Length / _config.DModel);
    }

    /// <summary>Replays a fixture.</summary>
    /// <param name="folder">Laid out as tests/Goldens/README.md says.</param>
    /// <param name="checkpointPath">The weights to start from; null for the folder itself.</param>
    /// <param name="threads">CPU threads; 0 takes every core.</param>
    /// <returns>One row per quantity.</returns>
    /// <exception cref="InvalidDataException">The fixture or the checkpoint is damaged.</exception>
    /// <exception cref="IOException">A file is not there or cannot be read.</exception>
    public static ParityReport Replay(string folder, string? checkpointPath, int threads)
    {
        var fixture = new ParityFixture(folder);
        string path = checkpointPath ?? folder;
        using Checkpoint checkpoint = Checkpoint.Open(path, new CheckpointOpenOptions { VerifyChecksums = true });
        using var run = new ParityRun(fixture, checkpoint, threads);
        run.All();
        return new ParityReport(folder, path, run._dtype.Name(), run._table.Rows);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _model.Dispose();
        _prompt.Dispose();
    }

    private void All()
    {
        Buckets();
        PositionBias("encoder_position_bias", "encoder", bidirectional: true);
        PositionBias("decoder_position_bias", "decoder", bidirectional: false);
        Forward();
        LongCase();
        WithoutPrompt();
        Greedy("prompt", _prompts);
        Greedy("noprompt", null);
        new GradientParity(_fixture, _checkpoint, _model, _prompts, _table).All();
        new OptimizerParity(_fixture, _checkpoint, _model, _table).All();
        new SubspaceParity(_fixture, _checkpoint, _model, _table).All();
    }

    private void Buckets()
    {
        if (!_fixture.Has("relative_buckets"))
        {
            _table.Add(ParityRow.Skip("relative_buckets", "not in this fixture"));
            return;
        }
        int[] table = _fixture.Ids("relative_buckets");
        int n = table.Length / 3;
        var ours = new double[2 * n];
        for (int i = 0; i < n; i++)
        {
            for (int side = 0; side < 2; side++)
                ours[side * n + i] = RelativePositionBias.Bucket(table[i], bidirectional: side == 0, _config.RelativeAttentionNumBuckets, _config.RelativeAttentionMaxDistance);
        }
        _table.Compare("relative_buckets", Array.ConvertAll(table[n..], v => (double)v), ours, ParityTolerance.Exact("integers"));
    }

    private void PositionBias(string name, string stack, bool bidirectional)
    {
        if (!_fixture.Has(name))
        {
            _table.Add(ParityRow.Skip(name, "not in this fixture"));
            return;
        }
        int length = _fixture.Dim(name, 2);
        Weight weight = _checkpoint[$"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"];
        using DeviceBuffer table = _model.Device.Allocate(DType.F32, weight.Shape.Elements, "bias table");
        Conversion.ToF32(_model.Device, new Tensor(_model.Device, weight.Address, weight.DType, weight.Shape.Elements), table.Tensor, weight.Shape.Elements);
        using DeviceBuffer bias = _model.Device.Allocate(DType.F32, (long)_config.NumHeads * length * length, name);
        RelativePositionBias.Forward(_model.Device, table.Tensor, bias.Tensor, _config.RelativeAttentionNumBuckets, _config.NumHeads, length, length, bidirectional, _config.RelativeAttentionMaxDistance);
        _table.Compare(name, _fixture.Values(name), ParityTable.Floats(bias.Tensor), _dtype == DType.F32 ? ParityTolerance.Exact("a look-up") : _float);
    }

    private void Forward()
    {
        int[] lengths = _fixture.Lengths();
        T5Batch batch = _fixture.Batch("input_ids", "labels", lengths, prompt: 0);
        EncodedBatch encoded = _model.Encode(batch, _prompts, TapeDetail.Blocks);
        DecodedBatch decoded = _model.Score(encoded, batch, TapeDetail.Blocks);
        int prompt = _prompts.Length(0);
        Hidden("encoder_hidden", [.. encoded.Tape, encoded.Hidden], encoded.SourceLength, Array.ConvertAll(lengths, n => n + prompt));
        Hidden("decoder_hidden", [.. decoded.Tape, decoded.Hidden], decoded.TargetLength, null);
        string logits = _fixture.Has("logits64") ? "logits64" : "logits";
        _table.Compare("logits", _fixture.Values(logits), ParityTable.Floats(decoded.Logits), _float);
        Loss("loss", _fixture.HasScalar("loss64") ? "loss64" : "loss", decoded, TokenLoss.Plain, mean: true);
        Loss("loss_label_smoothed_sum", "loss_label_smoothed_sum", decoded, TokenLoss.Plain with { LabelSmoothing = 0.1f }, mean: false);
    }

    private void LongCase()
    {
        if (!_fixture.Has("long_input_ids"))
        {
            _table.Add(ParityRow.Skip("long_loss", "not in this fixture"));
            return;
        }
        int rows = _fixture.Dim("long_input_ids", 0), width = _fixture.Dim("long_input_ids", 1);
        int[] lengths = new int[rows];
        Array.Fill(lengths, width);
        T5Batch batch = _fixture.Batch("long_input_ids", "long_labels", lengths, prompt: 0);
        Loss("long_loss", "long_loss", _model.Score(_model.Encode(batch, _prompts), batch), TokenLoss.Plain, mean: true);
    }

    private void WithoutPrompt()
    {
        int[] lengths = _fixture.Lengths();
        T5Batch batch = _fixture.Batch("input_ids", "labels", lengths, prompt: -1);
        EncodedBatch encoded = _model.Encode(batch);
        if (_fixture.Has("noprompt_encoder_last_hidden_state"))
            Rows("noprompt_encoder_last_hidden_state", _fixture.Values("noprompt_encoder_last_hidden_state"), ParityTable.Floats(encoded.Hidden), encoded.SourceLength, lengths);
        else
            _table.Add(ParityRow.Skip("noprompt_encoder_last_hidden_state", "not in this fixture"));
        if (_fixture.Has("noprompt_logits"))
            _table.Compare("noprompt_logits", _fixture.Values("noprompt_logits"), ParityTable.Floats(_model.Score(encoded, batch).Logits), _float);
        else
            _table.Add(ParityRow.Skip("noprompt_logits", "not in this fixture"));
    }

    // Fed with the fixture's own tokens, so that one tie does not make the rest of a row incomparable.
    private void Greedy(string which, PromptTable? prompts)
    {
        string tokensName = $"greedy_{which}_tokens", scoresName = $"greedy_{which}_scores";
        if (!_fixture.Has(tokensName) || !_fixture.Has(scoresName))
        {
            _table.Add(ParityRow.Skip(tokensName, "not in this fixture"));
            return;
        }
        int[] tokens = _fixture.Ids(tokensName);
        double[] expected = _fixture.Values(scoresName);
        int batchSize = _fixture.Dim(tokensName, 0), steps = _fixture.Dim(scoresName, 1), v = _config.VocabSize;
        EncodedBatch encoded = _model.Encode(_fixture.Batch("input_ids", null, _fixture.Lengths(), prompt: prompts is null ? -1 : 0), prompts);
        using IStepDecoder decoder = _model.StartDecoding(encoded);
        var ours = new double[expected.Length];
        int differ = 0;
        string worst = "";
        double slack = _float.Relative * ParityTable.MaxAbs(expected);
        int[] feed = new int[batchSize];
        for (int t = 0; t < steps; t++)
        {
            for (int b = 0; b < batchSize; b++)
                feed[b] = tokens[b * (steps + 1) + t];
            ReadOnlySpan<float> logits = decoder.DecodeNext(feed);
            for (int b = 0; b < batchSize; b++)
            {
                int best = 0;
                for (int i = 0; i < v; i++)
                {
                    ours[(b * steps + t) * v + i] = logits[b * v + i];
                    best = logits[b * v + i] > logits[b * v + best] ? i : best;
                }
                int wanted = tokens[b * (steps + 1) + t + 1];
                // Another token is the same answer only where the fixture's own scores are closer than both sides' rounding.
                if (best == wanted || Math.Abs(expected[(b * steps + t) * v + wanted] - expected[(b * steps + t) * v + best]) <= 2 * slack)
                    continue;
                differ++;
                worst = $"example {b}, step {t}: expected {wanted}, ours {best}";
            }
        }
        _table.Add(new ParityRow(tokensName, differ == 0 ? ParityStatus.Passed : ParityStatus.Failed, differ, differ, 0, "tokens are equal, ties closer than the scores' tolerance aside", worst));
        _table.Compare(scoresName, expected, ours, _float);
    }

    // [stages, B, S, D]; padded positions reach nothing and are left out.
    private void Hidden(string name, IReadOnlyList<Tensor> stages, int length, int[]? lengths)
    {
        if (!_fixture.Has(name))
        {
            _table.Add(ParityRow.Skip(name, "not in this fixture"));
            return;
        }
        double[] expected = _fixture.Values(name);
        double[] ours = [.. stages.SelectMany(ParityTable.Floats)];
        int batch = checked((int)(stages[0].Elements / length / _config.DModel));
        int[] all = lengths ?? [.. Enumerable.Repeat(length, batch)];
        Rows(name, expected, ours, length, [.. Enumerable.Repeat(all, stages.Count).SelectMany(x => x)]);
    }

    // Compares the first lengths[b] rows of each [length, D] matrix.
    private void Rows(string name, double[] expected, double[] ours, int length, int[] lengths)
    {
        int d = _config.DModel;
        if (expected.Length == ours.Length)
        {
            for (int b = 0; b < lengths.Length; b++)
            {
                int from = (b * length + lengths[b]) * d, count = (length - lengths[b]) * d;
                expected.AsSpan(from, count).Clear();
                ours.AsSpan(from, count).Clear();
            }
        }
        _table.Compare(name, expected, ours, _float);
    }

    private void Loss(string name, string scalar, DecodedBatch decoded, TokenLoss options, bool mean)
    {
        if (!_fixture.HasScalar(scalar))
        {
            _table.Add(ParityRow.Skip(name, "not in this fixture"));
            return;
        }
        long rows = decoded.Labels.Elements;
        using DeviceBuffer loss = _model.Device.Allocate(DType.F64, rows, "loss");
        CrossEntropy.Forward(_model.Device, decoded.Logits, decoded.Labels, loss.Tensor, rows, _config.VocabSize, options);
        double[] losses = loss.Tensor.ToArray<double>();
        int[] labels = decoded.Labels.ToArray<int>();
        double sum = 0;
        int counted = 0;
        for (int i = 0; i < rows; i++)
        {
            sum += losses[i];
            counted += labels[i] == T5Batch.Ignore ? 0 : 1;
        }
        _table.Compare(name, [_fixture.Scalar(scalar)], [mean ? sum / counted : sum], _float);
    }
}
