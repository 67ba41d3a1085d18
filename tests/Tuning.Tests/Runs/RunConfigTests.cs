using System.Reflection;
using IptNative.Kernels.Ops;
using IptNative.Optimizers;
using IptNative.Tuning.Runs;
using Xunit;

namespace IptNative.Tuning.Tests.Runs;

public sealed class RunConfigTests : IDisposable
{
    private const string Least = """{"model": "google/t5-base-lm-adapt", "tasks": ["gym/sst2"]}""";

    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private RunConfig Parse(string json, params string[] overrides) => RunConfig.Parse(json, "run.json", _folder, overrides);

    private string Refusal(string json, params string[] overrides) => Assert.Throws<InvalidDataException>(() => Parse(json, overrides)).Message;

    [Fact]
    public void DefaultsAreThoseOfLester()
    {
        RunConfig config = Parse(Least);
        Assert.Equal("google/t5-base-lm-adapt", config.Model);
        Assert.Equal((100, PromptInit.ClassLabel), (config.Prompt.Length, config.Prompt.Init));
        Assert.Equal((OptimizerKind.Adafactor, 0.3, RateSchedule.Constant), (config.Optimizer.Name, config.Optimizer.LearningRate, config.Optimizer.Schedule));
        Assert.Equal((AdafactorVariant.T5X, 1e-5, 0.8), (config.Optimizer.Adafactor.Variant, config.Optimizer.Adafactor.WeightDecay, config.Optimizer.Adafactor.DecayExponent));
        Assert.Equal((30_000L, 32, 1000, 1), (config.Training.Steps, config.Training.BatchSize, config.Training.EvalEvery, config.Training.Runs));
        Assert.Equal((0.0, 1e-4, LossReduction.Mean), (config.Loss.LabelSmoothing, config.Loss.ZLoss, config.Loss.Reduction));
        TaskConfig task = Assert.Single(config.Tasks);
        Assert.Equal(("sst2", false, 13), (task.DisplayName, task.TaskPrefix, task.Seed));
        Assert.Equal(Path.GetFullPath("runs/run"), config.Output);
    }

    [Fact]
    public void PathsStartFromTheFile()
    {
        Directory.CreateDirectory(Path.Combine(_folder, "models", "tiny"));
        RunConfig config = Parse("""{"model": "models/tiny", "task": {"data": "../gym/rte"}, "output": "out", "prompt": {"init": "file", "init_file": "p.npy"}}""", "task.test=t.tsv");
        Assert.Equal(Path.Combine(_folder, "models", "tiny"), config.Model);
        Assert.Equal(Path.GetFullPath(Path.Combine(_folder, "..", "gym", "rte")), config.Tasks[0].Data);
        Assert.Equal(Path.Combine(_folder, "out"), config.Output);
        Assert.Equal(Path.Combine(_folder, "p.npy"), config.Prompt.InitFile);
        // Typed on the command line: from where the user stands.
        Assert.Equal(Path.GetFullPath("t.tsv"), config.Tasks[0].Test);
        // Neither there nor a Hub name: the whole path is what a message should show.
        Assert.Equal(Path.Combine(_folder, "a/b/c"), Parse("""{"model": "a/b/c", "tasks": ["t"]}""").Model);
    }

    [Fact]
    public void CommentsAndTrailingCommasAreTaken() =>
        Assert.Equal(20, Parse("\uFEFF{ // a run\n \"model\": \"m\", /* one */ \"tasks\": [\"t\",], \"prompt\": {\"length\": 2e1,}, }").Prompt.Length);

    [Theory]
    [InlineData("""{"modle": "m", "tasks": ["t"]}""", "run.json, line 1: 'modle' is unknown; the nearest is 'model'. There are: model, method, tasks,")]
    [InlineData("{\"model\": \"m\", \"tasks\": [\"t\"],\n\n\"prompt\": {\"lenght\": 5}}", "run.json, line 3: 'prompt.lenght' is unknown; the nearest is 'length'. 'prompt' has: length, init,")]
    [InlineData("""{"model": "m", "tasks": ["t", {"data": "u", "sots": 16}]}""", "'tasks.1.sots' is unknown; the nearest is 'shots'")]
    [InlineData("{\"model\": \"m\", \"tasks\": [\"t\"], \"prompt\":\n{\"length\": \"5\"}}", "run.json, line 2: prompt.length is the text \"5\", expected a whole number 1 or more.")]
    [InlineData("""{"model": "m", "tasks": ["t"], "prompt": {"length": 0}}""", "prompt.length is the number 0, expected a whole number 1 or more")]
    [InlineData("""{"model": "m", "tasks": ["t"], "prompt": {"length": 1.5}}""", "prompt.length is the number 1.5, expected a whole number")]
    [InlineData("""{"model": "m", "tasks": ["t"], "prompt": {"length": 99999999999}}""", "prompt.length is the number 99999999999")]
    [InlineData("""{"model": "m", "tasks": ["t"], "prompt": 5}""", "prompt is the number 5, expected an object { ... }")]
    [InlineData("""{"model": ["m"], "tasks": ["t"]}""", "model is a list, expected a text")]
    [InlineData("""{"model": "m", "tasks": {"data": "t"}}""", "tasks is an object, expected a list [ ... ]")]
    [InlineData("""{"model": "m", "tasks": [3]}""", "tasks.0 is the number 3, expected an object { ... }, or a text for its 'data'")]
    [InlineData("""{"model": "m", "tasks": ["t"], "optimizer": {"name": "adam"}}""", "optimizer.name is the text \"adam\", expected one of \"adafactor\", \"adamw\"; did you mean \"adamw\"?")]
    [InlineData("""{"model": "m", "tasks": ["t"], "optimizer": {"name": "adamw", "decay_rate": 0.8}}""", "'optimizer.decay_rate' is unknown")]
    [InlineData("""{"model": "m", "tasks": ["t"], "optimizer": {"learning_rate": -1}}""", "optimizer.learning_rate is the number -1, expected a number 0 or more.")]
    [InlineData("""{"model": "m", "tasks": ["t"], "optimizer": {"learning_rate": 1e999}}""", "optimizer.learning_rate is the number 1e999")]
    [InlineData("""{"model": "m", "tasks": ["t"], "optimizer": {"weight_decay": 1}}""", "expected a number 0 to below 1.")]
    [InlineData("""{"model": "m", "tasks": ["t"], "optimizer": {"clip_norm": true}}""", "optimizer.clip_norm is true, expected a number above 0, or null.")]
    [InlineData("""{"model": "m", "tasks": ["t"], "optimizer": {"warmup_steps": 5}}""", "optimizer.warmup_steps is 5 with a constant schedule")]
    [InlineData("""{"model": "m", "tasks": ["t"], "optimizer": {"schedule": "linear_warmup"}}""", "\"linear_warmup\" with 0 warmup_steps")]
    [InlineData("""{"model": "m", "tasks": ["t"], "optimizer": {"schedule": "linear_decay", "warmup_steps": 31000}}""", "of training.steps 30000 in all")]
    [InlineData("""{"model": "m", "tasks": ["t"], "optimizer": {"variant": "hf", "step_offset": -1}}""", "optimizer.step_offset is -1, expected 0 for the variant \"hf\"")]
    [InlineData("""{"model": "m", "tasks": ["t"], "optimizer": {"name": "adamw", "correct_bias": false}}""", "optimizer.correct_bias is false")]
    [InlineData("""{"model": "m", "tasks": ["t"], "prompt": {"init": "text"}}""", "\"text\" without prompt.init_text")]
    [InlineData("""{"model": "m", "tasks": ["t"], "prompt": {"init_text": "a"}}""", "prompt.init_text is given, but prompt.init is another")]
    [InlineData("""{"model": "m", "tasks": ["t"], "prompt": {"init": "file"}}""", "\"file\" without prompt.init_file")]
    [InlineData("""{"model": "m", "tasks": ["t"], "prompt": {"init_file": "a"}}""", "prompt.init_file is given")]
    [InlineData("""{"model": "m", "tasks": ["t"], "task": "u"}""", "found 'task', but run.json, line 1 has 'tasks'")]
    [InlineData("""{"model": "m", "tasks": ["t"], "forward": "ort", "compute": "bf16"}""", "forward is ort and compute is bf16, expected f32 with it: ONNX Runtime computes float32 on a CPU. Set \"forward\" to auto or native.")]
    [InlineData("""{"model": "m", "tasks": ["t"], "forward": "ort", "tape": "bf16"}""", "forward is ort and tape is bf16")]
    [InlineData("""{"model": "m", "tasks": ["t"], "forward": "ort", "spill": "s"}""", "forward is ort and spill names a folder, expected none with it: ONNX Runtime keeps its outputs in memory. Set \"forward\" to auto or native.")]
    [InlineData("""{"model": "m", "tasks": ["t"], "forward": "ort", "weights": "streamed"}""", "weights is \"streamed\" and forward is \"ort\", which binds all weights at once. Set \"forward\": \"native\".")]
    [InlineData("""{"model": "m", "tasks": ["t", "u"], "method": "msf", "memory_budget": "2GB"}""", "memory_budget is set and method is \"msf\", which trains an autoencoder that the memory plan does not count. Leave it out: steps are planned with half of the free memory.")]
    [InlineData("""{"model": "m", "tasks": ["t", "u"], "method": "msf", "spill": "s"}""", "spill names a folder and method is \"msf\", which trains an autoencoder")]
    [InlineData("""{"model": "m", "tasks": ["t", "u"], "method": "msf", "weights": "streamed"}""", "weights is \"streamed\" and method is \"msf\", which trains an autoencoder")]
    [InlineData("""{"model": "m", "tasks": ["t", "u"], "method": "msf", "training": {"runs": 2}}""", "training.runs is 2, expected 1 for \"method\": \"msf\"")]
    [InlineData("""{"model": "m", "tasks": ["t"], "memory_budget": "some"}""", "memory_budget")]
    [InlineData("""{"model": "m", "tasks": ["t"], "compute": "f16"}""", "compute is the text \"f16\", expected one of \"f32\", \"bf16\"")]
    [InlineData("""{"model": "m", "tasks": ["t"], "device": "gpu"}""", "device is \"gpu\", expected auto, cpu, cuda or cuda:n")]
    [InlineData("""{"model": "m", "tasks": ["t"], "training": {"seed": 2147483647, "runs": 2}}""", "the last seed, 2147483648")]
    [InlineData("""{"tasks": ["t"]}""", "run.json: 'model' is missing")]
    [InlineData("""{"model": "m"}""", "run.json: tasks is empty")]
    [InlineData("""{"model": "m", "tasks": [{"name": "x"}]}""", "tasks.0 has neither 'data' nor 'train'")]
    [InlineData("""{"model": "m", "tasks": [{"data": "x y"}]}""", "the task's name is \"x y\"")]
    [InlineData("""{"model": "m", "tasks": [{"name": "../x", "data": "x"}]}""", "it names a folder")]
    [InlineData("""{"model": "m", "tasks": ["a/t", "b/T"]}""", "tasks.1 and tasks.0 are both 'T'")]
    [InlineData("""{"model": "m", "tasks": [{"data": "x", "input_template": "{a}"}]}""", "one template without the other")]
    [InlineData("""{"model": "m", "tasks": [{"data": "x", "casting": "rte", "input_template": "{a}", "target_template": "{b}"}]}""", "a casting and templates")]
    [InlineData("""{"model": "m", "tasks": ["t"], "model": "n"}""", "found 'model' a second time")]
    [InlineData("{\"model\": \"m\",\n\"tasks\": [\"t\"", "run.json, line 2: reading options; found broken JSON")]
    [InlineData("{\"model\": \"m\"}\n}", "found broken JSON")]
    [InlineData("""["model"]""", "found a list, expected an object")]
    [InlineData("", "found broken JSON")]
    public void MistakesAreNamedWithTheirPlace(string json, string reason) => Assert.Contains(reason, Refusal(json), StringComparison.Ordinal);

    [Fact]
    public void DeepNestingIsRefused() => Assert.Contains("found broken JSON", Refusal(new string('[', 100_000)), StringComparison.Ordinal);

    [Fact]
    public void OverridesWinOverTheFile()
    {
        RunConfig config = Parse("""{"model": "m", "tasks": ["t", {"data": "u"}], "prompt": {"length": 5}}""",
            "prompt.length=20", "prompt.init=text", "prompt.init_text=Classify: this", "tasks.1.shots=32", "tasks.*.seed=21", "tasks.0.name=42", "optimizer.clip_norm=null",
            "tasks.1.metric=[\"acc\", \"em\"]", "tasks.0.metric=acc", "training.steps=10", "tasks.0.task_prefix=true", "model=google/x");
        Assert.Equal((20, PromptInit.Text, "Classify: this"), (config.Prompt.Length, config.Prompt.Init, config.Prompt.InitText));
        Assert.Equal([(null, 21, "42"), (32, 21, "u")], config.Tasks.Select(t => (t.Shots, t.Seed, t.DisplayName)));
        Assert.Equal(["acc", "em"], config.Tasks[1].Metric);
        Assert.Equal(["acc"], config.Tasks[0].Metric);
        Assert.True(config.Tasks[0].TaskPrefix);
        Assert.Equal((10L, "google/x"), (config.Training.Steps, config.Model));
        Assert.Equal("r", Parse("""{"model": "m"}""", "task.data=r").Tasks[0].DisplayName);
        Assert.Equal("=1", Parse(Least, "prompt.init=text", "prompt.init_text==1").Prompt.InitText);
    }

    [Theory]
    [InlineData("prompt.lenght=20", "--set prompt.lenght=20: 'prompt.lenght' is unknown; the nearest is 'length'")]
    [InlineData("prompt.length=many", "--set prompt.length=many: prompt.length is the text \"many\", expected a whole number 1 or more")]
    [InlineData("prompt.length=", "prompt.length is the text \"\", expected a whole number")]
    public void WrongOverridesAreNamed(string argument, string reason) => Assert.Contains(reason, Refusal(Least, argument), StringComparison.Ordinal);

    [Theory]
    [InlineData("prompt", "found no name and equals sign")]
    [InlineData("=3", "found no name and equals sign")]
    [InlineData("prompt..length=3", "the name has an empty part")]
    [InlineData("tasks.2.seed=3", "'tasks' is a list of 2; found item '2', expected 0 to 1, or * for all")]
    [InlineData("tasks.x.seed=3", "found item 'x'")]
    [InlineData("model.name=3", "'model' is the text \"m\" (run.json, line 1), expected a section that can hold 'name'")]
    [InlineData("task.seed=3", "there are 2 tasks, expected their number: tasks.0.seed=3")]
    public void OverridesThatLeadNowhereAreRefused(string argument, string reason) =>
        Assert.Contains(reason, Assert.Throws<ArgumentException>(() => Parse("""{"model": "m", "tasks": ["t", "u"]}""", argument)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData(Least)]
    [InlineData("""{"model": "m", "tasks": ["t", {"name": "u", "train": "x.jsonl", "input_template": "\"é\" {q}\n", "target_template": "{a}", "labels": ["a", "<b>"], "classification": true}], "optimizer": {"name": "adamw", "variant": "hf", "correct_bias": false, "clip_norm": 1.5}, "training": {"runs": 3}}""")]
    public void CanonicalFormReadsBackAsItself(string json)
    {
        RunConfig config = Parse(json);
        string canonical = config.ToJson();
        RunConfig again = RunConfig.Parse(canonical, "elsewhere.json", "/", []);
        Assert.Equal(canonical, again.ToJson());
        Assert.Equal(config.Identity(new RunInputs()), again.Identity(new RunInputs()));
        Assert.EndsWith("}\n", canonical, StringComparison.Ordinal);
    }

    [Fact]
    public void EveryPropertyIsAnOption()
    {
        // A property that the walk forgot could never be set, and would not count in a run's identity.
        foreach ((Type type, string[] notOptions) in new (Type, string[])[]
        {
            (typeof(RunConfig), []), (typeof(TaskConfig), ["DisplayName"]), (typeof(PromptConfig), []), (typeof(TrainingConfig), []),
            (typeof(LossConfig), []), (typeof(EvaluationConfig), []), (typeof(OptimizerConfig), []), (typeof(AdafactorOptions), []), (typeof(AdamWOptions), []),
        })
        {
            foreach (PropertyInfo property in type.GetProperties().Where(p => p.Name != "EqualityContract" && !notOptions.Contains(p.Name)))
                Assert.True(Reaches(type, property), $"{type.Name}.{property.Name} is no option");
        }
    }

    // Changes one property and looks whether the flat list of options changes.
    private static bool Reaches(Type type, PropertyInfo property)
    {
        var config = new RunConfig { Model = "m", Tasks = [new TaskConfig { Data = "t" }] };
        object owner = Owner(config, type);
        string before = Flat(config);
        object? old = property.GetValue(owner);
        object? other = Type.GetTypeCode(Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType) switch
        {
            TypeCode.String => "other",
            TypeCode.Boolean => !(bool)(old ?? false),
            TypeCode.Int32 when property.PropertyType.IsEnum => Enum.ToObject(property.PropertyType, (int)old! == 0 && Enum.GetValues(property.PropertyType).Length > 1 ? 1 : 0),
            TypeCode.Int32 => Convert.ToInt32(old) + 1,
            TypeCode.Int64 => Convert.ToInt64(old) + 1,
            TypeCode.Double => Convert.ToDouble(old) + 0.5,
            _ => null,
        };
        if (property.PropertyType == typeof(IReadOnlyList<string>))
            other = new[] { "other" };
        if (other is null || Equals(other, old))
            return true; // a section, or a choice of one
        if (type == typeof(AdamWOptions))
            typeof(OptimizerConfig).GetProperty("Name")!.SetValue(config.Optimizer, OptimizerKind.AdamW);
        before = Flat(config);
        property.SetValue(owner, other);
        return Flat(config) != before;
    }

    private static object Owner(RunConfig config, Type type) => type.Name switch
    {
        nameof(RunConfig) => config,
        nameof(TaskConfig) => config.Tasks[0],
        nameof(PromptConfig) => config.Prompt,
        nameof(TrainingConfig) => config.Training,
        nameof(LossConfig) => config.Loss,
        nameof(EvaluationConfig) => config.Evaluation,
        nameof(OptimizerConfig) => config.Optimizer,
        nameof(AdafactorOptions) => config.Optimizer.Adafactor,
        _ => config.Optimizer.AdamW,
    };

    private static string Flat(RunConfig config) => string.Join("\n", config.Flatten().Select(o => $"{o.Name}={o.Json}"));

    [Fact]
    public void IdentityIsOfWhatIsTrained()
    {
        var inputs = new RunInputs();
        inputs.Add("task sst2", "/somewhere/train.tsv", "aa");
        RunConfig config = Parse(Least);
        string identity = config.Identity(inputs);
        Assert.Matches("^[0-9a-f]{64}$", identity);
        Assert.Equal(identity, (config with { Threads = 2, Output = "/else", Device = "cuda:0", Model = "/moved", Training = config.Training with { LogEvery = 7, MicroBatchSize = 3 } }).Identity(inputs));
        Assert.NotEqual(identity, (config with { Prompt = config.Prompt with { Length = 99 } }).Identity(inputs));
        Assert.NotEqual(identity, (config with { Loss = config.Loss with { ZLoss = 0 } }).Identity(inputs));
        var moved = new RunInputs();
        moved.Add("task sst2", "/elsewhere/train.tsv", "aa");
        Assert.Equal(identity, config.Identity(moved));
        moved.Add("task sst2", "/elsewhere/train.tsv", "bb");
        Assert.NotEqual(identity, config.Identity(moved));
    }

    [Fact]
    public void RowsAreTasksTimesSeeds()
    {
        RunConfig config = Parse("""{"model": "m", "tasks": ["t", {"data": "u"}, {"data": "x/u", "seed": 21}], "training": {"runs": 2, "seed": 7}}""");
        Assert.Equal(["t-seed7", "t-seed8", "u_13-seed7", "u_13-seed8", "u_21-seed7", "u_21-seed8"], config.Rows().Select(r => r.Name));
        Assert.Equal([0, 1, 2, 3, 4, 5], config.Rows().Select(r => r.Index));
        Assert.Equal([0, 0, 1, 1, 2, 2], config.Rows().Select(r => r.TaskIndex));
    }

    [Fact]
    public void OptionsDescribeThemselves()
    {
        IReadOnlyList<OptionHelp> options = RunConfig.Describe();
        Assert.Contains(options, o => o is { Name: "prompt.length", Default: "100" });
        Assert.Contains(options, o => o.Name == "optimizer.name" && o.Help.Contains("adafactor | adamw", StringComparison.Ordinal));
        Assert.All(options, o => Assert.True(o.Help.Length > 5, o.Name));
    }

    [Fact]
    public void AMissingFileIsNamed() =>
        Assert.Contains("there is no such file", Assert.Throws<FileNotFoundException>(() => RunConfig.Load(Path.Combine(_folder, "none.json"), [])).Message, StringComparison.Ordinal);
}
