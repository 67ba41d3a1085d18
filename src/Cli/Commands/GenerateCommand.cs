// `iptnative generate`: texts in, a frozen T5's answers out, with a tuned prompt or without.
using System.CommandLine;
using System.Globalization;
using IptNative.Cli.Terminal;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Decoding;
using IptNative.Tuning.Inference;

namespace IptNative.Cli.Commands;

internal static class GenerateCommand
{
    public static Command Create()
    {
        var defaults = new GenerationOptions();
        var model = new Option<string>("--model") { Description = "Package, checkpoint folder, weight file or Hub name.", Required = true };
        var prompt = new Option<string?>("--prompt") { Description = "Tuned prompt: a PEFT adapter folder or a .npy file of shape [P, d_model]." };
        var maxLength = new Option<int>("--max-length") { Description = "Most tokens to generate.", DefaultValueFactory = _ => defaults.MaxLength };
        var minLength = new Option<int>("--min-length") { Description = "Tokens before the text may end.", DefaultValueFactory = _ => defaults.MinLength };
        var beams = new Option<int>("--num-beams") { Description = "Beams of the search; 1 is greedy.", DefaultValueFactory = _ => defaults.NumBeams };
        var lengthPenalty = new Option<double>("--length-penalty") { Description = "Beam scores are divided by length^this.", DefaultValueFactory = _ => defaults.LengthPenalty };
        var sample = new Option<bool>("--do-sample") { Description = "Draw tokens instead of taking the likeliest." };
        var temperature = new Option<double>("--temperature") { Description = "Sampling: logits are divided by this.", DefaultValueFactory = _ => defaults.Temperature };
        var topK = new Option<int>("--top-k") { Description = "Sampling: only the k likeliest tokens; 0 takes all.", DefaultValueFactory = _ => defaults.TopK };
        var topP = new Option<double>("--top-p") { Description = "Sampling: only the likeliest tokens that hold this share of the probability.", DefaultValueFactory = _ => defaults.TopP };
        var seed = new Option<long>("--seed") { Description = "Sampling: the same seed gives the same text, whatever else is in the batch.", DefaultValueFactory = _ => defaults.Seed };
        var sequences = new Option<int>("--num-return-sequences") { Description = "Texts per input.", DefaultValueFactory = _ => defaults.NumReturnSequences };
        var batch = new Option<int>("--batch-size") { Description = "Inputs computed together.", DefaultValueFactory = _ => 8 };
        var maxSource = new Option<int>("--max-source-length") { Description = "Most tokens of an input, </s> included; what is longer is cut. 0 cuts nothing.", DefaultValueFactory = _ => 0 };
        var verify = new Option<bool>("--verify") { Description = "Compare every byte of the weights with its check sums first, where the format has them." };
        Option<string> compute = ComputeOption.Create(), forward = ForwardOption.Create();
        var threads = new ThreadsOption();
        var device = new DeviceOption();
        var asJson = new Option<bool>("--json") { Description = "One JSON object per text: input, output, ids, score, finish." };
        var inputs = new Inputs("input", "text");
        var command = new Command("generate", "Answer texts with a frozen T5: one line per input.") { model };
        inputs.AddTo(command);
        foreach (Option option in (Option[])[prompt, maxLength, minLength, beams, lengthPenalty, sample, temperature, topK, topP, seed, sequences, maxSource, batch, compute, forward, threads, device, verify, asJson])
            command.Options.Add(option);
        command.WithExamples(
            "iptnative generate --model models/t5-gym-tiny --input \"[clinc150-domain] what is my balance\"",
            "iptnative generate --model models/t5-gym-tiny --input-file questions.txt --num-beams 4 --json",
            "cat questions.txt | iptnative generate --model google/t5-base-lm-adapt --prompt runs/sst2/best");
        command.SetRun((parsed, cancel) =>
        {
            var options = new GenerationOptions
            {
                MaxLength = parsed.GetValue(maxLength),
                MinLength = parsed.GetValue(minLength),
                NumBeams = parsed.GetValue(beams),
                LengthPenalty = parsed.GetValue(lengthPenalty),
                DoSample = parsed.GetValue(sample),
                Temperature = parsed.GetValue(temperature),
                TopK = parsed.GetValue(topK),
                TopP = parsed.GetValue(topP),
                Seed = parsed.GetValue(seed),
                NumReturnSequences = parsed.GetValue(sequences),
            };
            try
            {
                options.Validate();
            }
            catch (ArgumentException e)
            {
                throw new UsageException(e.Message);
            }
            int batchSize = parsed.GetValue(batch);
            if (batchSize < 1)
                throw new UsageException($"--batch-size is {batchSize}, expected 1 or more.");
            int longest = parsed.GetValue(maxSource);
            if (longest is < 0 or 1)
                throw new UsageException($"--max-source-length is {longest}, expected 0 (no limit) or 2 and more (a token and </s>).");
            if (!options.DoSample && ((Option[])[temperature, topK, topP, seed]).FirstOrDefault(o => parsed.GetResult(o) is { Implicit: false }) is { } unused)
                throw new UsageException($"{unused.Name} acts on sampling only, and the likeliest tokens are to be taken. Add --do-sample, or leave {unused.Name} out.");
            int threadCount = threads.Of(parsed);
            ComputeType precision = ComputeOption.Read(parsed, compute);
            ForwardEngine? engine = ForwardOption.Read(parsed, forward, precision);
            // A device that cannot be had should not wait for texts.
            using ComputeDevice? gpu = device.OpenGpu(parsed, precision, engine);

            IEnumerable<string> texts = inputs.Read(parsed);
            using var progress = new ProgressLine("generating");
            using var generator = TextGenerator.Open(parsed.GetValue(model)!, parsed.GetValue(prompt), threadCount, longest, parsed.GetValue(verify), precision, engine, gpu);
            bool json = parsed.GetValue(asJson);
            using TextWriter output = StandardOutput.Open();
            long answered = 0;
            foreach (IReadOnlyList<GeneratedText> answers in generator.Generate(texts, options, batchSize, cancel))
            {
                progress.Clear();
                foreach (GeneratedText answer in answers)
                    Write(output, answer, json);
                // A reader of the pipe has each batch's answers at once.
                output.Flush();
                progress.Report(answered += answers.Count, 0, "answers");
            }
            return ExitCode.Done;
        });
        return command;
    }

    private static void Write(TextWriter output, GeneratedText text, bool json)
    {
        if (!json)
        {
            // One line per input is the contract of the plain form.
            output.WriteLine(text.Output.ReplaceLineEndings(" "));
            return;
        }
        JsonOutput.WriteObject(output, writer =>
        {
            writer.WriteString("input", text.Input);
            writer.WriteString("output", text.Output);
            writer.WriteIds("ids", text.Sequence.Ids);
            writer.WriteNumber("score", double.Parse(text.Sequence.Score.ToString("G9", CultureInfo.InvariantCulture), CultureInfo.InvariantCulture));
            writer.WriteString("finish", text.Sequence.Finish == FinishReason.EndOfSequence ? "eos" : "length");
        });
    }
}
