// Texts in, texts out: tokenizer, prompt, frozen model and decoding put together. Not: reading inputs, printing.
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Decoding;
using IptNative.Model.Forward;
using IptNative.Model.Tokenizer;
using IptNative.Tuning.Memory;
using IptNative.Tuning.Prompts;

namespace IptNative.Tuning.Inference;

/// <summary>One generated text beside its input.</summary>
/// <param name="Input">The text that was given.</param>
/// <param name="Output">The model's answer.</param>
/// <param name="Sequence">Its ids, score and how it ended.</param>
public readonly record struct GeneratedText(string Input, string Output, GeneratedSequence Sequence);

/// <summary>Answers texts with a frozen T5, with a tuned prompt or without.</summary>
public sealed class TextGenerator : IDisposable
{
    private readonly Checkpoint _checkpoint;
    private readonly FrozenT5 _model;
    private readonly T5Tokenizer _tokenizer;
    private readonly PromptMemory? _prompts;
    private readonly PromptTemplate? _template;

    private readonly int _maxSourceLength;

    private TextGenerator(Checkpoint checkpoint, string model, Prompt? prompt, int threads, int maxSourceLength, ComputeType compute, ForwardEngine? forward, ComputeDevice? device)
    {
        _maxSourceLength = maxSourceLength;
        _template = prompt?.Template;
        _checkpoint = checkpoint;
        _tokenizer = T5Tokenizer.Load(Checkpoint.FolderOf(model), checkpoint.Config.VocabSize);
        _model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = threads, Compute = compute, Generation = forward, Device = device });
        _prompts = prompt is null ? null : new PromptMemory(_model.Device, prompt);
    }

    /// <summary>Opens a model, its tokenizer and a prompt.</summary>
    /// <param name="model">Package, checkpoint folder, weight file or Hub name.</param>
    /// <param name="promptPath">PEFT folder or .npy file; null for none.</param>
    /// <param name="threads">CPU threads; 0 takes every core.</param>
    /// <param name="maxSourceLength">Most tokens of a text, its end included, 2 or more; longer ones are cut. 0 cuts nothing.</param>
    /// <param name="verifyChecksums">Compare the weights' bytes with their check sums first.</param>
    /// <param name="compute">What the model's products multiply.</param>
    /// <param name="forward">Who encodes and decodes; null: <see cref="ForwardEngines.Generating"/>.</param>
    /// <param name="device">Computes, and outlives this object; null: the CPU, with as many threads.</param>
    /// <returns>The generator; dispose it.</returns>
    /// <exception cref="ArgumentException">ONNX Runtime is to compute on another device than the CPU.</exception>
    /// <exception cref="InsufficientMemoryException">The device has no room for the model.</exception>
    /// <exception cref="InvalidDataException">A file is damaged, or the prompt belongs to a model of another width.</exception>
    /// <exception cref="IOException">A file is not there or cannot be read.</exception>
    public static TextGenerator Open(string model, string? promptPath, int threads, int maxSourceLength = 0, bool verifyChecksums = false, ComputeType compute = ComputeType.F32, ForwardEngine? forward = null, ComputeDevice? device = null)
    {
        // The prompt first: it is small, and a mistake in it should not wait for the model.
        Prompt? prompt = promptPath is null ? null : PromptFile.Read(promptPath);
        Checkpoint checkpoint = Checkpoint.Open(model, new CheckpointOpenOptions { VerifyChecksums = verifyChecksums });
        try
        {
            prompt?.RequireModel(checkpoint.Config, promptPath!);
            if (device is not null)
                AnswerPlanner.Require(device, StoredWeights.Of(checkpoint), prompt?.Length ?? 0);
            return new TextGenerator(checkpoint, model, prompt, threads, maxSourceLength, compute, forward, device);
        }
        catch
        {
            checkpoint.Dispose();
            throw;
        }
    }

    /// <summary>Answers texts in the order given, a batch at a time.</summary>
    /// <param name="texts">Read lazily, so that an endless pipe works.</param>
    /// <param name="options">How to decode.</param>
    /// <param name="batchSize">Texts computed together, 1 or more; does not change an answer.</param>
    /// <param name="cancel">Ends the work between two steps.</param>
    /// <returns>One list per batch: NumReturnSequences answers per text, in the order of the texts.</returns>
    /// <exception cref="InvalidDataException">A text has no token and there is no prompt either.</exception>
    /// <exception cref="InsufficientMemoryException">A text is too long for this machine.</exception>
    public IEnumerable<IReadOnlyList<GeneratedText>> Generate(IEnumerable<string> texts, GenerationOptions options, int batchSize, CancellationToken cancel)
    {
        var batch = new T5Batch();
        long number = 0;
        foreach (string[] chunk in texts.Chunk(batchSize))
        {
            cancel.ThrowIfCancellationRequested();
            batch.Clear();
            long[] streams = new long[chunk.Length];
            for (int i = 0; i < chunk.Length; i++)
            {
                // The line's own number picks its random stream: a text does not depend on its neighbours.
                streams[i] = number++;
                if (_template is null)
                    batch.Add(Ids(chunk[i], number), prompt: _prompts is null ? -1 : 0);
                else
                    batch.AddTemplate(Templated(chunk[i]), default, prompt: 0);
            }
            IReadOnlyList<GeneratedSequence>[] answers = Decode(batch, options, streams, cancel);
            var texted = new List<GeneratedText>(chunk.Length * options.NumReturnSequences);
            for (int i = 0; i < chunk.Length; i++)
            {
                foreach (GeneratedSequence answer in answers[i])
                    texted.Add(new GeneratedText(chunk[i], _tokenizer.Decode(answer.Ids, skipSentinels: true), answer));
            }
            yield return texted;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _model.Dispose();
        _prompts?.Dispose();
        _checkpoint.Dispose();
    }

    private int[] Ids(string text, long number)
    {
        int[] ids = _tokenizer.Encode(text, addEos: true);
        // A prompt by itself is something to answer; an end of sequence by itself is not.
        if (ids.Length == 1 && _prompts is null)
            throw new InvalidDataException($"generating: input {number} ({(text.Length == 0 ? "an empty text" : $"{text.Length} characters")}) has no token, expected one or more. Leave it out, or give a tuned prompt to answer.");
        if (_maxSourceLength == 0 || ids.Length <= _maxSourceLength)
            return ids;
        // As Hugging Face's tokenizers cut: the end of sequence stays.
        return [.. ids.AsSpan(0, _maxSourceLength - 1), _tokenizer.EosId];
    }

    private int[] Templated(string text)
    {
        var ids = new List<int>();
        _template!.Encode(_tokenizer, text, _maxSourceLength == 0 ? int.MaxValue : _maxSourceLength, ids); // asked for where there is one
        return [.. ids];
    }

    private IReadOnlyList<GeneratedSequence>[] Decode(T5Batch batch, GenerationOptions options, long[] streams, CancellationToken cancel)
    {
        EncodedBatch encoded = _model.Encode(batch, _prompts?.Table);
        using IStepDecoder decoder = _model.StartDecoding(encoded);
        return Generator.Generate(decoder, options, _model.Config.DecoderStartTokenId, _model.Config.EosTokenId, streams, cancel);
    }
}
