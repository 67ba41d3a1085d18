// Replays a fixture: the same batch through our forward pass, quantity by quantity. Not: printing, tolerances (ParityTolerance).
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
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

    // Padded hidden states are ONNX Runtime's, which answers on the CPU.
    private const string NotKept = "a device's own kernels keep no padded hidden states";

    private bool IsHost => _model.Device is CpuDevice;

    private ParityRun(ParityFixture fixture, Checkpoint checkpoint, int threads, ComputeDevice? device)
    {
        _fixture = fixture;
        _checkpoint = checkpoint;
        _config = checkpoint.Config;
        _dtype = checkpoint[T5Parameters.Shared].DType;
        _float = ParityTolerance.Float32(_config, _dtype).NotBelow(fixture, "logits");
        _model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = threads, Device = device, Compute = device?.Compute ?? ComputeType.F32 });
        float[] prompt = fixture.Floats("prompt");
        _prompt = _model.Device.Allocate(DType.F32, prompt.Length, "prompt");
        _prompt.Tensor.CopyFrom<float>(prompt);
        _prompts = new PromptTable(_prompt.Tensor, _config.DModel, prompt.Length / _config.DModel);
    }

    /// <summary>Replays a fixture.</summary>
    /// <param name="folder">Laid out as tests/Goldens/README.md says.</param>
    /// <param name="checkpointPath">The weights to start from; null for the folder itself.</param>
    /// <param name="threads">CPU threads; 0 takes every core.</param>
    /// <param name="device">Computes, and outlives the call; null: the CPU, with as many threads.</param>
    /// <returns>One row per quantity.</returns>
    /// <exception cref="InsufficientMemoryException">The device has no room.</exception>
    /// <exception cref="InvalidDataException">The fixture or the checkpoint is damaged.</exception>
    /// <exception cref="IOException">A file is not there or cannot be read.</exception>
    public static ParityReport Replay(string folder, string? checkpointPath, int threads, ComputeDevice? device = null)
    {
        var fixture = new ParityFixture(folder);
        string path = checkpointPath ?? folder;
        using Checkpoint checkpoint = Checkpoint.Open(path, new CheckpointOpenOptions { VerifyChecksums = true });
        using var run = new ParityRun(fixture, checkpoint, threads, device);
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
        // Widened by the host, which has it mapped.
        using var host = new CpuDevice(threads: 1);
        using DeviceBuffer wide = host.Allocate(DType.F32, weight.Shape.Elements, "bias table"), table = _model.Device.Allocate(DType.F32, weight.Shape.Elements, "bias table");
        Conversion.ToF32(host, new Tensor(host, weight.Address, weight.DType, weight.Shape.Elements), wide.Tensor, weight.Shape.Elements);
        table.Tensor.CopyFrom<float>(wide.Tensor.ToArray<float>());
        using DeviceBuffer bias = _model.Device.Allocate(DType.F32, (long)_config.NumHeads * length * length, name);
        RelativePositionBias.Forward(_model.Device, table.Tensor, bias.Tensor, _config.RelativeAttentionNumBuckets, _config.NumHeads, length, length, bidirectional, _config.RelativeAttentionMaxDistance);
        _table.Compare(name, _fixture.Values(name), ParityTable.Floats(bias.Tensor), _dtype == DType.F32 ? ParityTolerance.Exact("a look-up") : _float);
    }

    private void Forward()
    {
        int[] lengths = _fixture.Lengths();
        T5Batch batch = _fixture.Batch("input_ids", "labels", lengths, prompt: 0);
        if (!IsHost)
        {
            Skip(NotKept, "encoder_hidden", "decoder_hidden");
            Logits("logits", batch, _prompts);
            Loss("loss", "loss64", batch, TokenLoss.Plain, mean: true);
            Loss("loss_label_smoothed_sum", "loss_label_smoothed_sum", batch, TokenLoss.Plain with { LabelSmoothing = 0.1f }, mean: false);
            return;
        }
        EncodedBatch encoded = _model.Encode(batch, _prompts, TapeDetail.Blocks);
        DecodedBatch decoded = _model.Score(encoded, batch, TapeDetail.Blocks);
        int prompt = _prompts.Length(0);
        Hidden("encoder_hidden", [.. encoded.Tape, encoded.Hidden], encoded.SourceLength, Array.ConvertAll(lengths, n => n + prompt));
        Hidden("decoder_hidden", [.. decoded.Tape, decoded.Hidden], decoded.TargetLength, null);
        _table.Compare("logits", _fixture.Values(_fixture.Has("logits64") ? "logits64" : "logits"), ParityTable.Floats(decoded.Logits), _float);
        Loss("loss", "loss64", decoded, TokenLoss.Plain, mean: true);
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
        if (!IsHost)
            Loss("long_loss", "long_loss", batch, TokenLoss.Plain, mean: true);
        else
            Loss("long_loss", "long_loss", _model.Score(_model.Encode(batch, _prompts), batch), TokenLoss.Plain, mean: true);
    }

    private void WithoutPrompt()
    {
        int[] lengths = _fixture.Lengths();
        T5Batch batch = _fixture.Batch("input_ids", "labels", lengths, prompt: -1);
        if (!IsHost)
        {
            Skip(NotKept, "noprompt_encoder_last_hidden_state");
            if (_fixture.Has("noprompt_logits"))
                Logits("noprompt_logits", batch, null);
            else
                Skip("not in this fixture", "noprompt_logits");
            return;
        }
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

    // Teacher forcing, a token a step: our own kernels' decoder makes logits where a token follows, and training's loss head never holds them whole.
    private void Logits(string name, T5Batch batch, PromptTable? prompts)
    {
        int steps = Enumerable.Range(0, batch.Count).Max(b => batch.Labels(b).Length), v = _config.VocabSize;
        EncodedBatch encoded = _model.Encode(batch, prompts);
        using IStepDecoder decoder = _model.StartDecoding(encoded);
        var ours = new double[batch.Count * steps * v];
        int[] feed = new int[batch.Count];
        for (int t = 0; t < steps; t++)
        {
            for (int b = 0; b < feed.Length; b++)
            {
                // Shifted right; HF feeds padding where a label does not count.
                int before = t == 0 ? _config.DecoderStartTokenId : t - 1 < batch.Labels(b).Length ? batch.Labels(b)[t - 1] : T5Batch.Ignore;
                feed[b] = before == T5Batch.Ignore ? _config.PadTokenId : before;
            }
            ReadOnlySpan<float> logits = decoder.DecodeNext(feed);
            for (int b = 0; b < feed.Length; b++)
            {
                for (int i = 0; i < v; i++)
                    ours[(b * steps + t) * v + i] = logits[b * v + i];
            }
        }
        _table.Compare(name, _fixture.Values(_fixture.Has($"{name}64") ? $"{name}64" : name), ours, _float);
    }

    // As training computes it on a device.
    private void Loss(string name, string scalar, T5Batch batch, TokenLoss options, bool mean)
    {
        if (Scalar(name, scalar) is not { } expected)
            return;
        using var pass = new GradientPass(_checkpoint, _model, new GradientOptions { Forward = ForwardEngine.Native, Loss = options });
        double[] loss = [0];
        pass.Run(batch, _prompts, new int[batch.Count], [mean ? 1.0 / GradientParity.Tokens(batch) : 1], loss, default);
        _table.Compare(name, [expected], loss, _float);
    }

    // The float64 one where there is one.
    private double? Scalar(string name, string scalar)
    {
        string found = _fixture.HasScalar(scalar) ? scalar : name;
        if (_fixture.HasScalar(found))
            return _fixture.Scalar(found);
        Skip("not in this fixture", name);
        return null;
    }

    private void Skip(string reason, params ReadOnlySpan<string> names)
    {
        foreach (string name in names)
            _table.Add(ParityRow.Skip(name, reason));
    }

    private void Loss(string name, string scalar, DecodedBatch decoded, TokenLoss options, bool mean)
    {
        if (Scalar(name, scalar) is not { } expected)
            return;
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
        _table.Compare(name, [expected], [mean ? sum / counted : sum], _float);
    }
}
