// A subspace from two trained prompts, and a held-out task tuned inside it: the run files "msf" and "ist" one after the other.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Checkpoints;
using IptNative.Tuning.Prompts;
using IptNative.Tuning.Runs;
using IptNative.Tuning.Subspaces;
using IptNative.Tuning.Training;
using Xunit;

namespace IptNative.Tuning.Tests.Training;

public sealed class SubspaceRunTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void ATaskIsTunedInASubspaceThatOthersMade()
    {
        Run(Config("prompts", Tasks("words-first", "words-last"), "\"prompt\": { \"length\": 3, \"init\": \"vocab\" }, \"optimizer\": { \"name\": \"adamw\", \"learning_rate\": 0.05 }"));
        RunConfig msf = Msf("space");
        TrainRunReport found = Run(msf);
        Assert.Equal(StopReason.Steps, found.Outcomes[0].Stopped);
        Assert.Equal(["words-first", "words-last"], found.Result.Rows.Select(r => r.Row.Task));
        Assert.All(found.Result.Rows, r => Assert.True(r.Scores.ContainsKey("test")));

        string path = Path.Combine(msf.Output, "best", "subspace.safetensors");
        RunConfig ist = Config("ist", Tasks("words-second"), $"\"method\": \"ist\", \"ist\": {{ \"subspace\": \"{Escaped(path)}\", \"init_std\": 0.5 }}, \"optimizer\": {{ \"name\": \"adamw\", \"learning_rate\": 0.1 }}", "training.runs=2");
        TrainRunReport tuned = Run(ist);
        Assert.Equal(2, tuned.Outcomes.Count);
        using var device = new CpuDevice(1);
        using PromptSubspace subspace = PromptSubspace.Load(device, path);
        foreach (RunRow row in ist.Rows())
        {
            string best = Path.Combine(ist.Output, "best", row.Name);
            float[] z = NumpyFile.Read(Path.Combine(best, "z.npy")).ToFloats();
            Assert.Equal(2, z.Length);
            float[] decoded = subspace.Decode(z).Values, saved = PromptFile.Read(best).Values;
            // Two rows or one row in the product: rounding.
            for (int i = 0; i < saved.Length; i++)
                Assert.Equal(saved[i], decoded[i], 1e-5f * Math.Max(1, Math.Abs(saved[i])));
        }
    }

    [Fact]
    public void AnInterruptedSubspaceGoesOnBitForBit()
    {
        Run(Config("prompts", Tasks("words-first", "words-last"), "\"prompt\": { \"length\": 3, \"init\": \"vocab\" }"));
        RunConfig whole = Msf("whole"), stopped = Msf("stopped");
        Run(whole);
        using (var stop = new CancellationTokenSource())
            Assert.Throws<OperationCanceledException>(() => TrainRun.Execute(stopped, false, new StopAt(3, stop), _ => { }, stop.Token));
        Run(stopped, resume: true);
        Assert.Equal(File.ReadAllBytes(Path.Combine(whole.Output, "best", "subspace.safetensors")), File.ReadAllBytes(Path.Combine(stopped.Output, "best", "subspace.safetensors")));
    }

    [Theory]
    [InlineData("\"method\": \"msf\", \"msf\": { \"d_i\": 0 }", "msf.d_i is the number 0, expected a whole number 1 or more")]
    [InlineData("\"method\": \"msf\"", "tasks.0.prompt ('words-first') is missing, expected the task's trained prompt")]
    [InlineData("\"method\": \"ist\"", "ist.subspace is missing, expected a subspace file")]
    public void WhatIsMissingIsNamed(string options, string expected)
    {
        InvalidDataException e = Assert.Throws<InvalidDataException>(() => Config("x", Tasks("words-first", "words-last"), options + ", \"optimizer\": { \"name\": \"adamw\" }"));
        Assert.Contains(expected, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void OneTaskSharesNoSpace()
    {
        InvalidDataException e = Assert.Throws<InvalidDataException>(() => Config("x", Tasks("words-first"), "\"method\": \"msf\""));
        Assert.Contains("tasks holds 1 task, expected at least 2", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ASubspaceOfAnotherModelIsRefusedByName()
    {
        string path = Path.Combine(_folder, "other.safetensors");
        using (var device = new CpuDevice(1))
        {
            var header = new SubspaceHeader { Kind = SubspaceKind.Autoencoder, PromptLength = 3, DModel = 128, IntrinsicDim = 2, InnerDim = 4, Model = new ModelIdentity("somebody-elses", new string('f', 64)) };
            using AutoencoderSubspace other = AutoencoderSubspace.Create(device, header, 0);
            other.Save(path);
        }
        RunConfig config = Config("x", Tasks("words-first"), $"\"method\": \"ist\", \"ist\": {{ \"subspace\": \"{Escaped(path)}\" }}");
        InvalidDataException e = Assert.Throws<InvalidDataException>(() => Run(config));
        Assert.Contains("the subspace is of model 'somebody-elses'", e.Message, StringComparison.Ordinal);
    }

    /// <summary>IPT's own names without a header: what model they are of is what the run says.</summary>
    [Fact]
    public void ASubspaceOfIptsCodeIsTunedIn()
    {
        string path = Path.Combine(_folder, "best-ckpt.safetensors");
        var random = new Random(3);
        SafetensorsWriter writer = new();
        foreach ((string name, long rows, long columns) in ((string, long, long)[])[("module.prompt_W1.weight", 2, 384), ("module.prompt_W2.weight", 5, 2), ("module.prompt_W3.weight", 384, 5)])
            writer.Add(name, new TensorShape(rows, columns), Enumerable.Range(0, (int)(rows * columns)).Select(_ => (float)random.NextDouble() - 0.5f).ToArray());
        writer.Save(path);
        RunConfig config = Config("ipt-code", Tasks("words-second"), $"\"method\": \"ist\", \"ist\": {{ \"subspace\": \"{Escaped(path)}\" }}, \"optimizer\": {{ \"name\": \"adamw\", \"learning_rate\": 0.1 }}");
        Assert.Equal(StopReason.Steps, Run(config).Outcomes[0].Stopped);
        Assert.Equal(3, PromptFile.Read(Path.Combine(config.Output, "best")).Length);

        string none = Path.Combine(_folder, "none.safetensors");
        new SafetensorsWriter().Add("x", new TensorShape(1), new float[1]).Save(none);
        InvalidDataException e = Assert.Throws<InvalidDataException>(() => Run(Config("none", Tasks("words-second"), $"\"method\": \"ist\", \"ist\": {{ \"subspace\": \"{Escaped(none)}\" }}")));
        Assert.Contains("found no 'prompt_W1.weight' (or 'W1.weight') among 1 tensors", e.Message, StringComparison.Ordinal);
    }

    private RunConfig Msf(string name) => Config(
        name,
        string.Join(", ", ((string[])["words-first", "words-last"]).Select(t => $"{{ {Task(t)}, \"prompt\": \"{Escaped(Path.Combine(_folder, "prompts", "best", $"{t}-seed42"))}\" }}")),
        "\"method\": \"msf\", \"msf\": { \"d_i\": 2, \"d_inner\": 5, \"alpha\": 1 }, \"optimizer\": { \"name\": \"adamw\", \"learning_rate\": 0.01 }");

    private RunConfig Config(string name, string tasks, string options, params string[] overrides) => RunConfig.Parse($$"""
        {
          "model": "{{Escaped(TinyModel.Folder)}}",
          "tasks": [{{tasks}}],
          "training": { "steps": 6, "batch_size": 4, "eval_every": 2 },
          "evaluation": { "baselines": false },
          "threads": 2,
          "output": "{{Escaped(Path.Combine(_folder, name))}}",
          {{options}}
        }
        """, "test.json", _folder, overrides);

    private static string Tasks(params string[] names) => string.Join(", ", names.Select(n => $"{{ {Task(n)} }}"));

    private static string Task(string name) => $"\"name\": \"{name}\", \"data\": \"{Escaped(TinyModel.Gym)}\", \"train_limit\": 8, \"dev_limit\": 4, \"test_limit\": 4";

    private static TrainRunReport Run(RunConfig config, bool resume = false) => TrainRun.Execute(config, resume, new RunObservers(), _ => { }, TestContext.Current.CancellationToken);

    private static string Escaped(string path) => path.Replace("\\", "\\\\", StringComparison.Ordinal);

    private sealed class StopAt(long step, CancellationTokenSource stop) : IRunObserver
    {
        public void Started(RunStart start)
        {
        }

        public void Stepped(in StepReport report, ReadOnlySpan<RowStep> rows)
        {
            if (report.Step == step)
                stop.Cancel();
        }

        public void Evaluated(EvalReport report)
        {
        }

        public void RowEnded(RowFinished row)
        {
        }

        public void Finished(RunFinished report)
        {
        }
    }
}
