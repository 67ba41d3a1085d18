using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Model.Decoding;
using IptNative.Model.Forward;
using IptNative.Tuning.Inference;
using IptNative.Tuning.Prompts;
using IptNative.Tuning.Runs;
using IptNative.Tuning.Training;
using Xunit;

namespace IptNative.Tuning.Tests.PTuning;

public sealed class PromptTemplateTests(TinyModel model) : IClassFixture<TinyModel>, IDisposable
{
    private const int P = T5Batch.Place;

    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void VirtualTokensStandWhereTheTemplateHasThem()
    {
        int[] Plain(string text) => model.Tokenizer.Encode(text, addEos: false);
        int slot = model.Tokenizer.SentinelId(0), eos = model.Tokenizer.EosId;
        var template = PromptTemplate.Parse("[P:2] {text} [P:3] It was [slot]");
        Assert.Equal(5, template.Rows);
        var ids = new List<int>();
        Assert.False(template.Encode(model.Tokenizer, "green apples", 100, ids));
        Assert.Equal([P, P, .. Plain("green apples"), P, P, P, .. Plain("It was"), slot, eos], ids);
        // What stands together is tokenised together, and doubled brackets are brackets.
        ids.Clear();
        PromptTemplate.Parse("[[a]: {text}, {{b}[P:1]").Encode(model.Tokenizer, "x", 100, ids);
        Assert.Equal([.. Plain("[a]: x, {b}"), P, eos], ids);
        // Only the text is cut.
        ids.Clear();
        Assert.True(template.Encode(model.Tokenizer, string.Join(' ', Enumerable.Repeat("apples", 50)), 12, ids));
        Assert.Equal(12 + 5, ids.Count);
        Assert.Equal([P, P, P, .. Plain("It was"), slot, eos], ids[^(Plain("It was").Length + 5)..]);
    }

    [Theory]
    [InlineData("[P:3] {words}", "'{words}' is no slot, expected {text}, [P:n] for n virtual tokens, or [slot]")]
    [InlineData("[Q:3] {text}", "'[Q:3]' is no slot")]
    [InlineData("[P:0] {text}", "[P:0] asks for '0' virtual tokens, expected a number from 1 to 65536")]
    [InlineData("[P:-1] {text}", "asks for '-1'")]
    [InlineData("[P:99999999999] {text}", "asks for '99999999999'")]
    [InlineData("[P:3 {text}", "column 1 is not closed, expected ]")]
    [InlineData("[P:3] {text", "column 7 is not closed, expected }")]
    [InlineData("[P:3]", "{text} is there 0 times, expected once")]
    [InlineData("[P:3] {text} {text}", "{text} is there 2 times")]
    [InlineData("[slot] [P:3] {text} [slot]", "[slot] is there 2 times, expected at most once")]
    [InlineData("{text}", "there are no virtual tokens")]
    public void WhatIsNoTemplateIsSaid(string template, string message) =>
        Assert.Contains(message, Assert.Throws<ArgumentException>(() => PromptTemplate.Parse(template)).Message, StringComparison.Ordinal);

    [Fact]
    public void ATemplateThatPutsThePromptFirstIsPlainPromptTuning()
    {
        float[] values = Values(4 * 128, 1);
        PeftPrompt.Write(Path.Combine(_folder, "plain"), new Prompt(values, 4, 128));
        PeftPrompt.Write(Path.Combine(_folder, "templated"), new Prompt(values, 4, 128) { Template = PromptTemplate.Parse("[P:1][P:3]{text}") });
        string[] texts = ["[clinc150-domain] what is my balance", "x", "green apples on a tree and so on"];
        var options = new GenerationOptions { MaxLength = 12, ReturnLogProbs = true };
        using var plain = TextGenerator.Open(TinyModel.Folder, Path.Combine(_folder, "plain"), threads: 1);
        using var templated = TextGenerator.Open(TinyModel.Folder, Path.Combine(_folder, "templated"), threads: 1);
        GeneratedText[] expected = [.. plain.Generate(texts, options, 3, TestContext.Current.CancellationToken).SelectMany(b => b)];
        GeneratedText[] actual = [.. templated.Generate(texts, options, 3, TestContext.Current.CancellationToken).SelectMany(b => b)];
        for (int i = 0; i < texts.Length; i++)
        {
            Assert.Equal(expected[i].Output, actual[i].Output);
            Assert.Equal(expected[i].Sequence.TokenLogProbs, actual[i].Sequence.TokenLogProbs);
        }
    }

    [Fact]
    public void APromptAndATemplateOfOtherLengthsAreRefused()
    {
        var template = PromptTemplate.Parse("[P:3] {text}");
        Assert.Contains("has 3 virtual tokens, the prompt has 4 rows", Assert.Throws<ArgumentException>(() => new Prompt(new float[4], 4, 1) { Template = template }).Message, StringComparison.Ordinal);
        PeftPrompt.Write(_folder, new Prompt(new float[6], 3, 2) { Template = template });
        Assert.Equal(template, PromptFile.Read(_folder).Template);
        File.WriteAllText(Path.Combine(_folder, "prompt_template.txt"), "[P:4] {text}\n");
        Assert.Contains("prompt_template.txt", Assert.Throws<InvalidDataException>(() => PromptFile.Read(_folder)).Message, StringComparison.Ordinal);
        // A prompt without one, written over it, has none.
        PeftPrompt.Write(_folder, new Prompt(new float[6], 3, 2));
        Assert.Null(PromptFile.Read(_folder).Template);
    }

    [Theory]
    [InlineData("lstm")]
    [InlineData("mlp")]
    public void PTuningLearnsGoesOnBitForBitAndItsPromptNeedsNoEncoder(string encoder)
    {
        RunConfig whole = Config("whole", encoder), parts = Config("parts", encoder);
        var losses = new Losses();
        TrainRun.Execute(whole, false, losses, _ => { }, TestContext.Current.CancellationToken);
        Assert.True(losses.Last < 0.8 * losses.First, $"the loss was {losses.First} and is {losses.Last}");
        using (var stop = new CancellationTokenSource())
        {
            var told = new Losses { OnStep = step => { if (step == 13) stop.Cancel(); } };
            Assert.Throws<OperationCanceledException>(() => TrainRun.Execute(parts, true, told, _ => { }, stop.Token));
        }
        TrainRun.Execute(parts, true, new Losses(), _ => { }, TestContext.Current.CancellationToken);
        foreach (string run in (string[])["clinc150-domain-seed42", "clinc150-domain-seed43"])
        {
            Prompt prompt = PromptFile.Read(Path.Combine(whole.Output, "best", run));
            Assert.Equal((4, 128), (prompt.Length, prompt.DModel));
            Assert.Equal("[P:2] {text} [P:2] domain: [slot]", prompt.Template?.Source);
            Assert.Equal(prompt.Values, PromptFile.Read(Path.Combine(parts.Output, "best", run)).Values);
            using SafetensorsFile state = SafetensorsFile.Open(Directory.GetFiles(Path.Combine(whole.Output, "checkpoint"), "*.safetensors").Single());
            Assert.Contains($"{run}.mlp_head.0.weight", state.Names);
            using var generator = TextGenerator.Open(TinyModel.Folder, Path.Combine(whole.Output, "best", run), threads: 1);
            Assert.Single(generator.Generate(["what is my balance"], new GenerationOptions { MaxLength = 4 }, 1, TestContext.Current.CancellationToken).Single());
        }
    }

    [Fact]
    public void ContradictionsAreNamed()
    {
        Assert.Contains("has 4 virtual tokens and prompt.length is 5", Assert.ThrowsAny<Exception>(() => Config("x", "lstm", "prompt.length=5")).Message, StringComparison.Ordinal);
        Assert.Contains("'{tex}' is no slot", Assert.ThrowsAny<Exception>(() => Config("x", "lstm", "prompt.template=[P:4] {tex}")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ManyPromptsInOneFile()
    {
        string path = Path.Combine(_folder, "all.safetensors");
        var template = PromptTemplate.Parse("{text} [P:2]");
        PromptSetFile.Write(path, [KeyValuePair.Create("sst2", new Prompt(Values(6, 1), 2, 3)), KeyValuePair.Create("rte", new Prompt(Values(6, 2), 2, 3) { Template = template })]);
        Assert.Equal(["rte", "sst2"], PromptSetFile.Names(path).Order(StringComparer.Ordinal));
        Assert.Equal(Values(6, 1), PromptFile.Read(path + "#sst2").Values);
        Assert.Equal(template, PromptFile.Read(path + "#rte").Template);
        Assert.Equal(["rte", "sst2"], PromptFolder.Entries(_folder).Select(e => e.Name).Order(StringComparer.Ordinal));
        Assert.Equal(2, PromptFolder.Expand([path]).Count);
        Assert.Contains("nearest name is 'sst2'", Assert.Throws<InvalidDataException>(() => PromptFile.Read(path + "#sst")).Message, StringComparison.Ordinal);
        Assert.Contains("name one: ", Assert.Throws<InvalidDataException>(() => PromptFile.Read(path)).Message, StringComparison.Ordinal);
        Assert.Contains("'a' is there twice", Assert.Throws<ArgumentException>(() => PromptSetFile.Write(path, [KeyValuePair.Create("a", new Prompt([1], 1, 1)), KeyValuePair.Create("a", new Prompt([1], 1, 1))])).Message, StringComparison.Ordinal);
        Assert.Contains("expected one width", Assert.Throws<ArgumentException>(() => PromptSetFile.Write(path, [KeyValuePair.Create("a", new Prompt([1], 1, 1)), KeyValuePair.Create("b", new Prompt([1, 2], 1, 2))])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void MultitaskAdaptersAreReadTaskByTask()
    {
        const int Tasks = 3, Rows = 2, D = 5, Ranks = 2;
        float[] shared = Values(Rows * D, 1), cols = Values(Tasks * Rows * Ranks, 2), right = Values(Tasks * Ranks * D, 3);
        new SafetensorsWriter().Add("prompt_embeddings", new TensorShape(Rows, D), shared).Add("prefix_task_cols", new TensorShape(Tasks, Rows, Ranks), cols).Add("prefix_task_rows", new TensorShape(Tasks, Ranks, D), right)
            .Save(Path.Combine(_folder, "adapter_model.safetensors"));
        string config = Path.Combine(_folder, "adapter_config.json");
        File.WriteAllText(config, """{"peft_type":"MULTITASK_PROMPT_TUNING","num_tasks":3,"num_ranks":2,"num_virtual_tokens":2,"num_transformer_submodules":1,"token_dim":5}""");
        Assert.Equal(["0", "1", "2"], PromptSetFile.Names(_folder));
        Prompt second = PromptFile.Read(_folder + "#1");
        for (int i = 0; i < Rows; i++)
        {
            for (int j = 0; j < D; j++)
            {
                double product = Enumerable.Range(0, Ranks).Sum(r => (double)cols[(Rows + i) * Ranks + r] * right[(Ranks + r) * D + j]);
                Assert.Equal((float)(shared[i * D + j] * product), second.Values[i * D + j]);
            }
        }
        Assert.Contains("the prompts of 3 tasks. Name one by its number", Assert.Throws<InvalidDataException>(() => PromptFile.Read(_folder)).Message, StringComparison.Ordinal);
        Assert.Contains("expected a number from 0 to 2", Assert.Throws<InvalidDataException>(() => PromptFile.Read(_folder + "#3")).Message, StringComparison.Ordinal);
        File.WriteAllText(config, """{"peft_type":"MULTITASK_PROMPT_TUNING","num_tasks":3,"num_virtual_tokens":1,"num_transformer_submodules":2}""");
        Assert.Contains("prompts of the decoder", Assert.Throws<InvalidDataException>(() => PromptFile.Read(_folder + "#0")).Message, StringComparison.Ordinal);
    }

    private sealed class Losses : IRunObserver
    {
        public Action<long>? OnStep { get; init; }

        public double First { get; private set; } = double.NaN;

        public double Last { get; private set; }

        public void Started(RunStart start)
        {
        }

        public void Stepped(in StepReport step, ReadOnlySpan<RowStep> rows)
        {
            Last = rows[0].Loss;
            First = double.IsNaN(First) ? Last : First;
            OnStep?.Invoke(step.Step);
        }

        public void Evaluated(EvalReport evaluation)
        {
        }

        public void RowEnded(RowFinished row)
        {
        }

        public void Finished(RunFinished run)
        {
        }
    }

    private RunConfig Config(string name, string encoder, params string[] overrides)
    {
        string json = $$"""
            {
              "model": "{{Escaped(TinyModel.Folder)}}",
              "method": "p_tuning",
              "tasks": [{ "name": "clinc150-domain", "data": "{{Escaped(TinyModel.Gym)}}", "train_limit": 8, "dev_limit": 4 }],
              "prompt": { "length": 4, "init": "vocab", "template": "[P:2] {text} [P:2] domain: [slot]" },
              "p_tuning": { "encoder": "{{encoder}}", "hidden": 24 },
              "optimizer": { "name": "adamw", "learning_rate": 0.003 },
              "training": { "steps": 30, "batch_size": 8, "eval_every": 10, "runs": 2 },
              "evaluation": { "test": false },
              "threads": 2,
              "output": "{{Escaped(Path.Combine(_folder, name))}}"
            }
            """;
        return RunConfig.Parse(json, "test.json", _folder, overrides);
    }

    private static string Escaped(string path) => path.Replace("\\", "\\\\", StringComparison.Ordinal);

    private static float[] Values(int n, int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, n).Select(_ => (float)(random.NextDouble() - 0.5))];
    }
}
